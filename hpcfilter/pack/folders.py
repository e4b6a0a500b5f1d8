"""Folders of images by class: CLASS/*.png and whatever lies below, or the same under train/, val/ and test/
by their usual names."""

import os
from collections import Counter
from pathlib import Path

from hpcfilter.base.errors import InputError
from hpcfilter.pack.images import ImageFiles
from hpcfilter.pack.names import listed, meaning, split_of, words
from hpcfilter.pack.pictures import SUFFIXES
from hpcfilter.pack.source import Part, Source, Words

TOOLS = {"__macosx", "__pycache__", "lost+found", "@eadir", "$recycle.bin", "system volume information",
         "thumbs.db", "desktop.ini", "icon\r"}
# of data sets for detection and the like
PARTS = {"images", "image", "imgs", "labels", "masks", "mask", "annotations", "labels_txt", "segmentation"}


def is_hidden(name):
    """Whether a file or folder is of a system or a tool, and no data."""
    return name.startswith((".", "~$")) or name.lower() in TOOLS


def is_image(name):
    """Whether a file is called as images are."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


class Tree:
    """What lies in a folder, at any depth. images: list of Path. others: suffix -> how many files are
    no images. hidden: how many were passed over. again: links to folders that were walked before,
    since each is walked once.
    """

    def __init__(self, folder):
        self.images, self.others, self.hidden, self.again = [], Counter(), 0, []
        seen = set()
        for place, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
            if (real := os.path.realpath(place)) in seen:
                self.again.append(place)
                folders.clear()
                continue
            seen.add(real)
            self.hidden += sum(map(is_hidden, [*folders, *files]))
            folders[:] = sorted(name for name in folders if not is_hidden(name))
            for name in sorted(name for name in files if not is_hidden(name)):
                if is_image(name):
                    self.images.append(Path(place, name))
                else:
                    self.others[os.path.splitext(name)[1].lower() or "(no suffix)"] += 1


def _refuse(error):
    raise InputError(f"{error.filename}: cannot look into this folder: {error.strerror}") from None


class ClassFolders:
    """The class folders of one split. folder: that they lie in. inside: the folder in each of them that has
    the images of the split, or "". trees: name -> Tree. loose: names of the files beside the class folders.
    """

    def __init__(self, folder, inside=""):
        entries = sorted(folder.iterdir())
        self.folder, self.name = folder, f"{folder.name}/*/{inside}/" if inside else f"{folder.name}/"
        self.trees = {entry.name: Tree(entry / inside)
                      for entry in entries if entry.is_dir() and not is_hidden(entry.name)}
        self.loose = [entry.name for entry in entries if not entry.is_dir() and not is_hidden(entry.name)]
        self.hidden = (sum(is_hidden(entry.name) for entry in entries)
                       + sum(tree.hidden for tree in self.trees.values()))

    @property
    def count(self):
        """How many images there are."""
        return sum(len(tree.images) for tree in self.trees.values())

    @property
    def others(self):
        """suffix -> how many files are no images."""
        return sum((tree.others for tree in self.trees.values()), Counter())


def image_folder(folder, size, first_frame=False):
    """The images of a folder, as a Source. size, first_frame: see ImageFiles.

    Raises InputError when there are none, or a split has other classes than the training rows.
    """
    source = Source(folder.absolute().name, {})
    top = _descend(folder)
    if top != folder:
        source.notes.said.append(f"the class folders are those in {top}")
    splits = _splits(top, source.notes) or _splits_inside(top) or {"": ClassFolders(top)}
    train = splits.get("train", splits.get(""))
    if train is None:
        raise InputError(f"{top}: found folders for {' and '.join(splits)} and none for training; "
                         "expected train/CLASS/*.png")
    if not train.count:
        others = "; ".join(f"{count} files {suffix}" for suffix, count in train.others.most_common(5))
        raise InputError(f"{train.folder}: found no folders of images; expected one folder per class with "
                         f"image files in it ({', '.join(sorted(SUFFIXES))})"
                         + (f"; there are {others}" if others else ""))
    source.classes = [name for name, tree in train.trees.items() if tree.images]
    _refuse_no_classes(train, source.classes)
    _say_numbers(source)
    for split, found in splits.items():
        source.parts[split or "train"] = _part(found, source, size, first_frame)
    hidden = sum(found.hidden for found in splits.values())
    if all(found.folder != top for found in splits.values()):
        hidden += sum(is_hidden(entry.name) for entry in top.iterdir())
        _say_loose([entry.name for entry in sorted(top.iterdir())
                    if entry.is_file() and not is_hidden(entry.name)], f"{top.name}/", source.notes)
    if hidden:
        source.notes.left_out.append(f"{hidden} hidden or system files and folders")
    return source


def _folders(place):
    with os.scandir(place) as entries:
        return [place / name for name in sorted(entry.name for entry in entries
                                                if entry.is_dir() and not is_hidden(entry.name))]


def _holds_images(folder):
    with os.scandir(folder) as entries:
        return any(is_image(entry.name) and not is_hidden(entry.name) and not entry.is_dir()
                   for entry in entries)


def _descend(folder, split=None):
    """The folder that holds the class folders: further down where one folder is all there is, as
    archives are often unpacked.

    split: go down only into a folder that is named after this split, too.
    """
    while len(inside := _folders(folder)) == 1 and not _holds_images(inside[0]) and _folders(inside[0]):
        if meaning(inside[0].name).split != (split or ""):
            break
        folder = inside[0]
    return folder


def _splits(top, notes):
    """split -> ClassFolders, where the folders in `top` are named after splits; {} where they
    are classes themselves."""
    folders, named = _folders(top), {}
    for folder in folders:
        found = meaning(folder.name)
        if (found.split and found.role in ("", "images") and not {"tr", "te"} & set(words(folder.name))
                and not _holds_images(folder)):
            named.setdefault(found.rest, {}).setdefault(found.split, []).append(folder)
    named = max(named.values(), key=lambda splits: ("train" in splits, len(splits)), default={})
    others = [folder for folder in folders if not any(folder in found for found in named.values())]
    if (len({split for folder in folders if (split := split_of(folder.name)) and _holds_images(folder)})
            == len(folders) > 1):
        raise InputError(f"{top}: the folders {listed(f'{folder.name}/' for folder in folders)} are named "
                         "after splits and hold images, but no class folders; expected train/CLASS/*.png, "
                         "or a table (.csv) of the images' names and labels")
    # no two classes are called train and test
    certain = len({*named, *(meaning(folder.name).split for folder in others)} - {""}) > 1
    if not named or (others and "train" not in named) or (not certain and any(map(_holds_images, others))):
        return {}
    if not certain and any(Tree(folder).images for folder in others):
        raise InputError(f"{top}: {named['train'][0].name}/ may be the training rows, "
                         f"or a class beside {listed(f'{folder.name}/' for folder in others)}; "
                         f"give {named['train'][0]} alone, or another name to the folder")
    for split, found in named.items():
        if len(found) > 1:
            raise InputError(f"{top}: both {found[0].name}/ and {found[1].name}/ may be the {split} split; "
                             "move one of them away")
    if others:
        notes.left_out.append(f"{len(others)} folders beside {named['train'][0].name}/ that hold no class "
                              f"folders of a split: {listed(f'{folder.name}/' for folder in others)}")
    return {split: ClassFolders(_descend(found[0], split)) for split, found in named.items()}


def _splits_inside(top):
    """split -> ClassFolders, where it is the class folders that hold train/ and test/; {}
    where they do not."""
    inside = [{split_of(folder.name): folder.name for folder in _folders(one) if split_of(folder.name)}
              for one in _folders(top)]
    if (not inside or not all("train" in names and len(names) > 1 for names in inside)
            or any(map(_holds_images, _folders(top)))):
        return {}
    if any(names != inside[0] for names in inside):
        raise InputError(f"{top}: its class folders hold folders for splits, but not the same in each; "
                         "expected such as CLASS/train and CLASS/test")
    return {split: ClassFolders(top, name) for split, name in inside[0].items()}


def _refuse_no_classes(train, classes):
    """Raise InputError for folders that are the parts of another kind of data set."""
    if len(classes) > 1 and set(classes) <= PARTS:
        raise InputError(f"{train.folder}: holds {listed(f'{name}/' for name in classes)}, "
                         "which are no classes; expected one folder per class, or arrays of images and "
                         "masks (.npz, HDF5)")


def _say_loose(names, where, notes):
    """A word on files beside the class folders."""
    if images := [name for name in names if is_image(name)]:
        notes.left_out.append(f"{len(images)} images beside the class folders of {where}, "
                              f"which have no class: {listed(images)}")
    if others := [name for name in names if not is_image(name)]:
        notes.left_out.append(f"{len(others)} files beside the class folders of {where} that are no images: "
                              f"{listed(others)}")


def _part(found, source, size, first_frame):
    """The images of one split as a Part, and a word on what is passed over in it."""
    classes, notes, where = source.classes, source.notes, found.name
    unknown = [name for name, tree in found.trees.items() if name not in classes and tree.images]
    if unknown:
        raise InputError(f"{found.folder}: class folder '{unknown[0]}' is not among the training classes: "
                         f"{listed(classes)}")
    if empty := [name for name, tree in found.trees.items() if not tree.images and name not in classes]:
        notes.left_out.append(f"{len(empty)} folders without an image, which are no class: "
                              f"{listed(where + name for name in empty)}")
    _say_loose(found.loose, where, notes)
    if again := [place for tree in found.trees.values() for place in tree.again]:
        notes.left_out.append(f"{len(again)} links to folders that are there already: {listed(again)}")
    if found.others:
        notes.left_out.append(
            f"{found.others.total()} files in the class folders of {where} that are no images: "
            f"{listed(f'{count} {suffix}' for suffix, count in found.others.most_common())}")
    label = {name: number for number, name in enumerate(classes)}
    files = [(file, label[name]) for name, tree in found.trees.items() for file in tree.images]
    if not files:
        raise InputError(f"{found.folder}: found no image in its class folders, expected some or no "
                         "such folder")
    return Part(ImageFiles([file for file, _ in files], size, first_frame),
                Words([label for _, label in files], classes), where)


def _say_numbers(source):
    """A word where class folders are numbers that stand in another order as names, such as 0, 1, 10, 2."""
    numbers = [int(name) for name in source.classes if name.isdecimal()]
    if len(numbers) == len(source.classes) and numbers != sorted(numbers):
        source.notes.said.append("the class folders are taken in the order of their names: "
                                 f"{listed(source.classes, 4)}; so folder {source.classes[2]} has label 2")
