"""The tables [filter] and [score]."""

from hpcfilter.base.settings import NamedTable


class FilterTable(NamedTable):
    """[filter]: the policy that says who trains. The other keys are the policy's own, and those of
    the guards around it."""

    policy: str = "none"  # a name, or package.module:function


class ScoreTable(NamedTable):
    """[score]: what a sample is worth. The other keys are the score's own."""

    name: str = "auto"  # a name, or package.module:class; auto: the score that the policy ranks by
