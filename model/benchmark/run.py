"""A network of the suite from its training to its figures: every step is kept by what it was made of, and made once."""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.benchmark.entries import Entry
from model.benchmark.measure import LayerMeasured, Measured, measure
from model.benchmark.peer import PIXELS, PeerPoint, PeerResult, RateCode
from model.benchmark.plan import Plan
from model.conversion.choice import accuracy_of
from model.conversion.convert import convert_file
from model.importers.float_network import FloatNetwork
from model.network import Network
from model.support.cache import kept, source_hash
from model.support.dataset import Dataset
from model.support.errors import ToolMissingError
from model.support.files import write_file
from model.support.results import to_json
from model.training.finetune import FinetuneSettings, fine_tune

__all__ = ["Plan", "Spiking", "SuiteResult", "run"]

MODEL = Path(__file__).parents[1]
_APART = ("benchmark", "machine", "reports", "studies", "suite.py", "training", "zoo")
"""What of `model` has no part in conversion and measuring."""


@dataclass(frozen=True, kw_only=True)
class Spiking:
    """A spiking network, and what it does.

    Parameters
    ----------
    file, network_hash : str
        Its file in the suite's folder, and its content's hash.
    levels : dict of str to float
        Thresholds that a large activation of each layer of neurons is worth; empty where nothing was chosen.
    input_levels : int
        Spikes that a pixel fires at most.
    measured : Measured
        On all test frames.
    beside_peer : Measured or None
        On the test frames that the peer runs.
    peers : tuple of PeerResult
        The peer, as accurate: pixels as spikes, and as a current.
    """

    file: str
    network_hash: str
    levels: dict[str, float]
    input_levels: int
    measured: Measured
    beside_peer: Measured | None
    peers: tuple[PeerResult, ...]


@dataclass(frozen=True, kw_only=True)
class SuiteResult:
    """All that is found of a network.

    Parameters
    ----------
    name, title : str
        Which one.
    file : str
        Its ONNX file in the suite's folder.
    weights, macs : int
        Weights and multiplications of the float network as it was trained.
    accuracy_float : float
        Of the float network on all test frames.
    converted : Spiking
        As `model.convert` makes it with its defaults.
    tuned : Spiking or None
        As `model.finetune` makes it with its defaults.
    """

    name: str
    title: str
    file: str
    weights: int
    macs: int
    accuracy_float: float
    converted: Spiking
    tuned: Spiking | None


def run(
    entry: Entry,
    folder: Path,
    train: Dataset,
    test: Dataset,
    plan: Plan,
    *,
    calibrate: str = "mnist",
    data_dir: Path | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> SuiteResult:
    """Train, convert, fine-tune and measure a network, as far as that is not there.

    Parameters
    ----------
    entry : Entry
        Which network.
    folder : Path
        Where its files go; what its steps made is in ``steps`` there.
    train, test : Dataset
        Frames to train and to measure on.
    plan : Plan
        What to do.
    calibrate, data_dir : str, Path, optional
        The data set whose training frames conversion is calibrated on, as of `model.convert`.
    tell : Callable
        Takes what is being done.
    """
    steps = _Steps(folder / "steps", entry, train, test, plan, tell)
    onnx = steps.trained()
    floats = entry.read(onnx, train)
    found = [steps.converted(onnx, calibrate, data_dir)]
    if plan.tuning_epochs != 0:
        found.append(steps.tuned(onnx, floats))
    spiking = [
        steps.spiking(npz, _copied(npz, folder / f"{entry.name}{kind}.npz"), levels, onnx, floats)
        for (npz, levels), kind in zip(found, ("", "-tuned"), strict=False)
    ]
    return SuiteResult(
        name=entry.name,
        title=entry.title,
        file=_copied(onnx, folder / f"{entry.name}.onnx"),
        **_size(floats),
        accuracy_float=steps.accuracy_float(onnx, floats),
        converted=spiking[0],
        tuned=spiking[1] if len(spiking) > 1 else None,
    )


def _size(floats: FloatNetwork) -> dict[str, int]:
    """Weights and multiplications, without those that are only the importer's.

    A shortcut multiplies by 1, and a layer without an activation is written again as an input of a sum with it.
    """
    weights, macs, seen = floats.weights, floats.macs, set()
    for layer in floats.layers:
        for taken in layer.inputs:
            if taken.weights is None:
                continue
            written = (taken.source, taken.kind, taken.window, taken.stride, taken.padding, taken.weights.tobytes())
            shortcut = taken.groups == taken.weights.size and bool((taken.weights == 1).all())
            if shortcut or written in seen:
                weights -= taken.weights.size
                of_source = taken.kind == "transposed"
                positions = taken.taken(floats.shape_of(taken.source)) if of_source else floats.shape_of(layer.name)
                macs -= positions.height * positions.width * taken.weights.size
            seen.add(written)
    return {"weights": weights, "macs": macs}


def _copied(path: Path, to: Path) -> str:
    """The name of the file that what a step made is found under."""
    content = path.read_bytes()
    if not to.exists() or to.read_bytes() != content:
        write_file(to, content)
    return to.name


class _Steps:
    """The steps of one network: each gives its file, which is made where it is not there."""

    def __init__(
        self, folder: Path, entry: Entry, train: Dataset, test: Dataset, plan: Plan, tell: Callable[[str], None]
    ) -> None:
        self.folder, self.entry, self.train, self.test, self.plan, self.tell = folder, entry, train, test, plan, tell
        self.train_hash, self.test_hash = _hash_of(train), _hash_of(test)
        self.sources = source_hash(MODEL, without=_APART)
        self.rate_codes: dict[str, RateCode] = {}

    def trained(self) -> Path:
        networks = MODEL / "benchmark" / "networks"
        sources = [(networks / f"{name}.py").read_text() for name in (self.entry.name, "torch_training")]
        path = self._path("", "onnx", self.train_hash, self.plan.seed, _versions(self.entry.packages), sources)

        def make(part: Path) -> None:
            self.tell("training")
            self.entry.train(self.train, part, self.plan.seed)

        return kept(path, make)

    def converted(self, onnx: Path, calibrate: str, data_dir: Path | None) -> tuple[Path, dict[str, float]]:
        key = (_hash(onnx.read_bytes()), self.train_hash, self.plan.calibrated, self.sources)

        def make(part: Path) -> dict[str, float]:
            found = convert_file(
                onnx,
                calibrate=calibrate,
                data_dir=data_dir,
                name=self.entry.name,
                limit=self.plan.calibrated,
                output=self.entry.output,
                normalization=self.entry.normalization,
                progress=lambda text: self.tell(f"converting: {text}"),
            )
            found.network.save(part)
            return found.levels

        return self._network("converted", key, make)

    def tuned(self, onnx: Path, floats: FloatNetwork) -> tuple[Path, dict[str, float]]:
        # Digits may be distorted a little, as the command does by default.
        settings = FinetuneSettings(epochs=self.plan.tuning_epochs, augment=True)
        training = source_hash(MODEL / "training")
        key = (_hash(onnx.read_bytes()), self.train_hash, asdict(settings), self.sources, training, _versions(("torch",)))

        def make(part: Path) -> dict[str, float]:
            found = fine_tune(
                floats,
                self.train,
                settings,
                name=f"{self.entry.name}-tuned",
                report=lambda text: self.tell(f"fine-tuning: {text}"),
                resume=self._path("resume", "pt", *key),
            )
            found.network.save(part)
            return {}

        return self._network("tuned", key, make)

    def spiking(self, npz: Path, file: str, levels: dict[str, float], onnx: Path, floats: FloatNetwork) -> Spiking:
        network = Network.load(npz)
        beside, peers = None, []
        if self.plan.peer_frames:
            few = self.test.first(self.plan.peer_frames)
            beside = self._measured(network, few)
            peers = [self._peer(onnx, floats, few, beside.accuracy, pixels) for pixels in PIXELS]
        return Spiking(
            file=file,
            network_hash=network.content_hash,
            levels=levels,
            input_levels=network.input_levels,
            measured=self._measured(network, self.test),
            beside_peer=beside,
            peers=tuple(peers),
        )

    def accuracy_float(self, onnx: Path, floats: FloatNetwork) -> float:
        def make() -> dict[str, float]:
            self.tell("measuring the float network")
            images = self.test.fitted(floats.input_shape, classes=floats.outputs, threshold=0).images
            scores = floats.scores(images.astype(np.float32) / 255)
            return {"accuracy": accuracy_of(scores, self.test.labels)}

        return float(self._kept_json("float", (_hash(onnx.read_bytes()), self.test_hash, self.sources), make)["accuracy"])

    def _measured(self, network: Network, data: Dataset) -> Measured:
        def make() -> Measured:
            self.tell(f"measuring {network.name} on {len(data):,} frames")
            return measure(network, data)

        own = (Path(__file__).with_name("measure.py")).read_text()
        values = self._kept_json("measured", (network.content_hash, _hash_of(data), self.sources, own), make)
        return Measured(**values | {"layers": tuple(LayerMeasured(**layer) for layer in values["layers"])})

    def _peer(self, onnx: Path, floats: FloatNetwork, data: Dataset, wanted: float, pixels: str) -> PeerResult:
        def make() -> PeerResult:
            self.tell(f"the peer, pixels as {pixels}, to {wanted:.2%} of {len(data):,} frames")
            if pixels not in self.rate_codes:
                self.rate_codes[pixels] = RateCode(floats, self.train, data, pixels=pixels, steps=self.plan.peer_steps)
            return self.rate_codes[pixels].reach(wanted)

        own = (Path(__file__).with_name("peer.py")).read_text()
        versions = _versions(("torch", "spikingjelly"))
        key = (_hash(onnx.read_bytes()), self.train_hash, _hash_of(data), wanted, pixels, self.plan.peer_steps, versions, own)
        values = self._kept_json("peer", key, make)
        points = {name: PeerPoint(**values[name]) if values[name] else None for name in ("reached", "best")}
        return PeerResult(**values | points)

    def _network(
        self, what: str, key: tuple[Any, ...], make: Callable[[Path], dict[str, float]]
    ) -> tuple[Path, dict[str, float]]:
        """A network's file, and the levels of its layers, which stand in a file beside it."""
        path = self._path(what, "npz", *key)
        beside = path.with_suffix(".levels.json")

        def both(part: Path) -> None:
            write_file(beside, json.dumps(make(part)) + "\n")

        kept(path, both, beside=[beside])
        return path, json.loads(beside.read_text())

    def _kept_json(self, what: str, key: tuple[Any, ...], make: Callable[[], Any]) -> dict[str, Any]:
        path = kept(self._path(what, "json", *key), lambda part: part.write_text(to_json(make())))
        values: dict[str, Any] = json.loads(path.read_text())
        return values

    def _path(self, what: str, ending: str, *key: Any) -> Path:
        digest = _hash(json.dumps(key, sort_keys=True).encode())[:16]
        return self.folder / ("-".join(filter(None, (self.entry.name, what, digest))) + f".{ending}")


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _hash_of(data: Dataset) -> str:
    return _hash(data.images.tobytes() + data.labels.tobytes())


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    try:
        return {package: importlib.metadata.version(package) for package in packages}
    except importlib.metadata.PackageNotFoundError as error:
        raise ToolMissingError(f"the suite must have {error.name} installed: make suite-tools") from error
