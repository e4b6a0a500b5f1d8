"""Plain DistributedDataParallel: torchrun --nproc-per-node 2 examples/ddp_plain.py"""

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

EPOCHS = 15
dist.init_process_group("gloo")
torch.manual_seed(0)
images, labels = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
images = images.float() / 16
train, test = TensorDataset(images[:1400], labels[:1400]), (images[1400:], labels[1400:])
batch = 64 // dist.get_world_size()  # of each rank
sampler = DistributedSampler(train)
loader = DataLoader(train, batch, sampler=sampler, num_workers=1, persistent_workers=True)

model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
model = DistributedDataParallel(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
for epoch in range(EPOCHS):
    sampler.set_epoch(epoch)
    for x, y in loader:
        optimizer.zero_grad()
        output = model(x)
        loss = cross_entropy(output, y)
        loss.backward()
        optimizer.step()
    if dist.get_rank() == 0:
        accuracy = (model.module(test[0]).argmax(1) == test[1]).float().mean()
        print(f"epoch {epoch}  trained {len(sampler) * dist.get_world_size()}  accuracy "
              f"{100 * accuracy:.1f} %", flush=True)
dist.destroy_process_group()
