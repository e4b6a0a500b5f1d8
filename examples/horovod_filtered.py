"""The same, five lines changed: mpirun -np 2 python -m mpi4py examples/horovod_filtered.py"""

import horovod.torch as hvd
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import hpcfilter

EPOCHS = 15
hvd.init()
torch.manual_seed(0)
images, labels = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
images = images.float() / 16
train, test = TensorDataset(images[:1400], labels[:1400]), (images[1400:], labels[1400:])
batch = 64 // hvd.size()  # of each rank
sampler = hpcfilter.Filter(len(train), "infobatch", epochs=EPOCHS)
loader = DataLoader(sampler.indexed(train), batch, sampler=sampler, num_workers=1, persistent_workers=True)

model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
hvd.broadcast_parameters(model.state_dict(), root_rank=0)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
for epoch in range(EPOCHS):
    sampler.set_epoch(epoch)
    for index, (x, y) in loader:
        optimizer.zero_grad()
        output = model(x)
        loss = sampler.loss(cross_entropy(output, y, reduction="none"), index, output, y)
        loss.backward()
        optimizer.step()
    if hvd.rank() == 0:
        accuracy = (model(test[0]).argmax(1) == test[1]).float().mean()
        print(f"epoch {epoch}  trained {len(sampler) * hvd.size()}  accuracy {100 * accuracy:.1f} %",
              flush=True)
