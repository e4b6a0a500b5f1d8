"""Trees: dicts, tuples and lists of arrays, as inputs and targets of some models are. An array
alone is a tree, too."""


def each(function, tree):
    """A tree of the same form, of what `function` makes of each of its leaves."""
    if isinstance(tree, dict):
        return {name: each(function, part) for name, part in tree.items()}
    if isinstance(tree, tuple | list):
        parts = [each(function, part) for part in tree]
        # a named tuple takes them one by one
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return function(tree)


def leaves(tree):
    """The leaves of a tree, in its order. Returns a list."""
    found = []
    each(found.append, tree)
    return found


def samples(tree):
    """How many samples a tree of arrays (b, ...) holds."""
    return len(leaves(tree)[0])


def shape(tree):
    """The shape of one sample, for errors: of an array a tuple, else a tree of them."""
    return each(lambda part: tuple(part.shape[1:]), tree)
