"""Exact search for nearest neighbours, on the CPU or a GPU."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sslx.api import Parts

Distance = Literal["euclidean", "cosine"]
Found = tuple[Tensor, Tensor]  # values and positions

_MOST_OF_FAISS = 2048  # neighbours that FAISS finds on a GPU
_CHUNK = 4096  # queries that are searched at a time
_TILE = 1 << 28  # similarities that torch computes at a time, 1 GiB


class Search(NamedTuple):
    """Exact search: by FAISS on the CPU, and on a GPU by FAISS where it can, else by torch."""

    engine: Literal["faiss", "torch"]
    device: torch.device  # where it runs, and where the results are

    @classmethod
    def on(cls, device: torch.device, most: int) -> "Search":
        """The search for at most `most` neighbours on a device. All devices but CUDA's leave it to the CPU."""
        import faiss  # here, so that evaluators can be listed where faiss is not installed

        if device.type != "cuda":
            return cls("faiss", torch.device("cpu"))
        able = hasattr(faiss, "GpuIndexFlat") and faiss.get_num_gpus() and most <= _MOST_OF_FAISS
        return cls("faiss" if able else "torch", device)

    def __str__(self) -> str:
        import faiss

        version = {"faiss": faiss.__version__, "torch": torch.__version__}[self.engine]
        return f"exact, {self.engine} {version} on {self.device}"

    def __call__(self, z: Tensor | Parts, q: Tensor, k: int, distance: Distance) -> Found:
        """The k nearest of z (n, D) to each of q (m, D), float32 on the CPU, nearest first, of equals the first.

        If several processes have parts of z, each searches its own, and the nearest of what they find are returned.

        Returns:
            values: squared Euclidean distances or cosine similarities (m, k), float32 on `device`.
            positions: which of z they are (m, k), int64 on `device`.
        """
        # Distances stay the same without the mean, but many are computed as |q|² + |z|² - 2qz, and a large offset
        # cancels in it: with features around 1000 ± 1 this finds 2 % of the true neighbours, centred all of them.
        mean = None if distance == "cosine" else _mean(z)
        find: Callable[[Tensor, int], Found]
        if isinstance(z, Parts):
            inquire = z.prepare(_in_part, self.device.type, k, distance, mean)

            def find(q: Tensor, k: int) -> Found:
                return _nearest(inquire(q, k), k, distance)
        else:
            index = self._index(z, distance, mean)

            def find(q: Tensor, k: int) -> Found:
                return _nearest([index(_prepared(q, mean), k)], k, distance)

        # Parts of equal size: FAISS takes twice as long for each query where there are fewer than 2000.
        parts = q.tensor_split(max(1, math.ceil(len(q) / self._most(len(z)))))
        values, positions = zip(*(find(part, k) for part in parts), strict=True)
        return torch.cat(values).to(self.device), torch.cat(positions).to(self.device)

    def _most(self, n: int) -> int:
        """How many queries are searched at a time among n."""
        return _CHUNK if self.engine == "faiss" else max(1, min(_CHUNK, _TILE // max(1, n)))

    def _index(self, z: Tensor, distance: Distance, mean: Tensor | None) -> Callable[[Tensor, int], Found]:
        z = _prepared(z, mean)
        return self._faiss(z, distance) if self.engine == "faiss" else self._torch(z, distance)

    def _faiss(self, z: Tensor, distance: Distance) -> Callable[[Tensor, int], Found]:
        import faiss

        metric = faiss.METRIC_L2 if distance == "euclidean" else faiss.METRIC_INNER_PRODUCT
        if self.device.type == "cpu":  # without an index, which would be a copy of all rows

            def on_cpu(q: Tensor, k: int) -> Found:
                values, positions = faiss.knn(q.numpy(), z.numpy(), k, metric)
                return torch.from_numpy(values), torch.from_numpy(positions)

            return on_cpu
        torch.cuda.empty_cache()  # memory that torch keeps without using it
        config = faiss.GpuIndexFlatConfig()
        config.device = torch.cuda.current_device() if self.device.index is None else self.device.index
        index: Any = faiss.GpuIndexFlat(faiss.StandardGpuResources(), z.shape[1], metric, config)
        index.add(z.numpy())

        def find(q: Tensor, k: int) -> Found:
            values, positions = (torch.from_numpy(found) for found in index.search(q.numpy(), k))
            return values.to(self.device), positions.to(self.device)

        return find

    def _torch(self, z: Tensor, distance: Distance) -> Callable[[Tensor, int], Found]:
        z = z.to(self.device)
        norms = z.square().sum(dim=1) if distance == "euclidean" else z.new_zeros(1)
        matmul = torch.backends.cuda.matmul

        def find(q: Tensor, k: int) -> Found:
            q = q.to(self.device)
            precision, matmul.fp32_precision = matmul.fp32_precision, "ieee"  # TF32 would find other neighbours
            values, positions = torch.addmm(norms, q, z.T, beta=-0.5).topk(k)
            matmul.fp32_precision = precision
            if distance == "euclidean":
                values = q.square().sum(dim=1, keepdim=True) - 2 * values
            return values, positions

        return find


def _mean(z: Tensor | Parts) -> Tensor:
    """The mean of the rows, (D,), summed in float64, so that it is the same for parts."""
    sums = z.each(_sum) if isinstance(z, Parts) else [_sum(z)]
    return (torch.stack(sums).sum(dim=0) / len(z)).float()


def _sum(z: Tensor, places: Tensor | None = None) -> Tensor:
    # In pieces, of which torch makes copies in float64.
    return torch.stack([rows.sum(dim=0, dtype=torch.float64) for rows in z.split(1 << 16)]).sum(dim=0)


def _prepared(z: Tensor, mean: Tensor | None) -> Tensor:
    """Rows without the mean, or of unit length for similarities."""
    return F.normalize(z) if mean is None else z - mean


def _in_part(
    z: Tensor, places: Tensor, device: str, most: int, distance: Distance, mean: Tensor | None
) -> Callable[[Tensor, int], Found]:
    """The search in the rows of one process, at these places among all."""
    if not len(z):
        return lambda q, k: (torch.empty(len(q), 0), torch.empty(len(q), 0, dtype=torch.int64))
    search = Search.on(torch.device(device), most)
    find = search._index(z, distance, mean)

    def found(q: Tensor, k: int) -> Found:
        values, positions = find(_prepared(q, mean), min(k, len(z)))
        return values.cpu(), places[positions.cpu()]

    return found


def _nearest(parts: Sequence[Found], k: int, distance: Distance) -> Found:
    """The k nearest of those that were found in the parts; of equals, those that come first."""
    values, positions = (torch.cat(each, dim=1) for each in zip(*parts, strict=True))
    order = positions.argsort(dim=1)
    order = order.gather(1, values.gather(1, order).argsort(dim=1, descending=distance == "cosine", stable=True)[:, :k])
    return values.gather(1, order), positions.gather(1, order)
