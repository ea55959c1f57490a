"""Which of some labels a model would answer with: a search over a tree of their tokens.

The probability of a label is that of all its tokens, by the chain rule: that an answer begins with
them and with no longer label. Lengths are not made up for: the later tokens of a word that the
first one gives away are nearly certain, and cost it nothing. Each node of the tree is read once,
the likeliest first, and a beginning that is unlikely beside the best label is not read on.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Decision", "LabelTree"]

_UNLIKELY = math.log(1e-3)


@dataclass(slots=True)
class LabelTree:
    """The tokens of ``count`` labels, each of which may be written in several forms.

    Nodes are numbered, 0 is what no token has been read of. ``children`` are a node's by their
    tokens, ``labels`` the label that ends at it, -1 where none does.
    """

    count: int
    children: list[dict[int, int]] = field(default_factory=lambda: [{}])
    labels: list[int] = field(default_factory=lambda: [-1])
    before: list[tuple[int, int]] = field(default_factory=lambda: [(-1, -1)])
    depth: int = 0

    @classmethod
    def of(cls, forms: Sequence[Iterable[Sequence[int]]]) -> LabelTree:
        """A tree of each label's forms, the first of which it keeps whoever else has it too."""
        tree = cls(len(forms))
        each = [list(dict.fromkeys(tuple(tokens) for tokens in some if tokens)) for some in forms]
        owners: dict[tuple[int, ...], set[int]] = {}
        for label, some in enumerate(each):
            for tokens in some:
                owners.setdefault(tokens, set()).add(label)
        firsts = {some[0] for some in each}
        for label, (first, *others) in enumerate(each):
            tree._add(first, label)
            for tokens in others:
                if len(owners[tokens]) == 1 and tokens not in firsts:
                    tree._add(tokens, label)
        return tree

    def _add(self, tokens: Sequence[int], label: int) -> None:
        node = 0
        for token in tokens:
            if token not in self.children[node]:
                self.children[node][token] = len(self.children)
                self.children.append({})
                self.labels.append(-1)
                self.before.append((node, token))
            node = self.children[node][token]
        self.labels[node] = label
        self.depth = max(self.depth, len(tokens))

    def path(self, node: int) -> list[int]:
        """The tokens that lead to a node."""
        tokens = []
        while node:
            node, token = self.before[node]
            tokens.append(token)
        return tokens[::-1]

    def below(self, node: int) -> list[int]:
        """The labels that end at a node or behind it."""
        found, nodes = [], [node]
        while nodes:
            at = nodes.pop()
            found += [self.labels[at]] if self.labels[at] >= 0 else []
            nodes += self.children[at].values()
        return found


class Decision:
    """One search: ``path`` is what to read next, ``take`` what was found there.

    ``scores`` has the logarithm of each label's probability, once ``is_over``.
    """

    def __init__(self, tree: LabelTree) -> None:
        self._tree = tree
        self._node, self._frontier = 0, list[tuple[float, int]]()
        self.scores = np.full(tree.count, -np.inf)
        self._logprob = {0: 0.0}
        self.is_over = False

    @property
    def path(self) -> list[int]:
        """The tokens of labels behind the prompt, behind the last of which comes what to read."""
        return self._tree.path(self._node)

    def ahead(self) -> list[int]:
        """The tokens behind the path that have to be read whatever is found: no others follow."""
        tokens, node = list[int](), self._node
        while len(self._tree.children[node]) == 1:
            ((token, node),) = self._tree.children[node].items()
            if self._tree.children[node]:
                tokens.append(token)
        return tokens

    def take(self, rows: Iterable[NDArray[np.float32]]) -> None:
        """Note the logits behind the path, and behind as many tokens ahead as were read."""
        for number, logits in enumerate(rows):
            if number:
                (self._node,) = self._tree.children[self._node].values()
            self._read(self._node, logits)
        self._choose()

    def _read(self, node: int, logits: NDArray[np.float32]) -> None:
        tokens = self._tree.children[node]
        top = float(logits.max())
        whole = top + math.log(float(np.exp(logits - top, dtype=np.float64).sum()))
        of_each = logits[np.fromiter(tokens, np.intp, len(tokens))].astype(np.float64) - whole
        label = self._tree.labels[node]
        if label >= 0:  # nothing of a longer label follows
            rest = max(1.0 - float(np.exp(of_each).sum()), 1e-12)
            self._add(label, self._logprob[node] + math.log(rest))
        for child, logprob in zip(tokens.values(), of_each.tolist(), strict=True):
            reached = self._logprob[node] + logprob
            if self._tree.children[child]:
                self._logprob[child] = reached
                heapq.heappush(self._frontier, (-reached, child))
            else:
                self._add(self._tree.labels[child], reached)
        del self._logprob[node]

    def _add(self, label: int, logprob: float) -> None:
        self.scores[label] = np.logaddexp(self.scores[label], logprob)

    def _choose(self) -> None:
        """Go on where most may be found, as long as it is worth while."""
        while self._frontier and self._frontier[0][1] not in self._logprob:  # read ahead
            heapq.heappop(self._frontier)
        if self._frontier and -self._frontier[0][0] > self.scores.max() + _UNLIKELY:
            self._node = heapq.heappop(self._frontier)[1]
            return
        self.is_over = True
        for logprob, node in self._frontier:  # at most: the probability of its beginning
            if node not in self._logprob:
                continue
            labels = self._tree.below(node)
            for label in labels:
                self._add(label, -logprob - math.log(len(labels)))
