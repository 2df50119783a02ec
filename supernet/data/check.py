"""What a data set holds, and what is wrong with which of its files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from supernet.data.density import inside
from supernet.data.files import (
    PHOTO_SUFFIXES,
    FixationDataset,
    MapDataset,
    PhotoFiles,
    RecordedDataset,
    list_photos,
    read_photo,
)
from supernet.data.fixation_csv import find_table, read_points
from supernet.data.folder import MAPS, STIMULI, is_folder
from supernet.data.registry import NAMED, data_root, find_layout, open_dataset
from supernet.data.sample import Dataset
from supernet.errors import DataError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Problem:
    """A file that cannot be used (`fatal`), or one that is used but looks wrong."""

    file: str
    message: str
    remedy: str | None = None
    fatal: bool = True


@dataclass(frozen=True)
class CheckReport:
    """What was found under `root`.

    splits       photos of each split
    usable       photos that can be read with all that belongs to them
    fixations    recorded on the usable photos, those beside the photo left out
    sizes        smallest and largest (H, W) of the usable photos, by area; empty without any
    """

    root: str
    layout: str | None
    splits: dict[str, int]
    photos: int
    usable: int
    with_fixations: int
    with_maps: int
    with_masks: int
    fixations: int
    sizes: tuple[tuple[int, int], ...]
    problems: tuple[Problem, ...]

    @property
    def is_sound(self) -> bool:
        """Whether every photo can be used."""
        return not any(problem.fatal for problem in self.problems)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"sound": self.is_sound}

    def lines(self, most: int = 20) -> list[str]:
        """The report as text, with the first `most` problems."""
        splits = ", ".join(f"{number} {split}" for split, number in self.splits.items())
        lines = [
            f"{self.root}: {self.layout or 'no known layout'}",
            f"{self.usable} of {self.photos} photos can be used" + (f" ({splits})" if splits else ""),
        ]
        held = {
            f"fixations ({self.fixations:,})": self.with_fixations,
            "saliency maps": self.with_maps,
            "object masks": self.with_masks,
        }
        lines += [f"{number} with {what}" for what, number in held.items() if number]
        if self.sizes:
            lines.append("sizes " + " to ".join(f"{width}x{height}" for height, width in self.sizes))
        for problem in self.problems[:most]:
            lines.append(f"{'wrong' if problem.fatal else 'note'}  {problem.file}: {problem.message}")
            lines += [f"       {problem.remedy}"] if problem.remedy and problem.fatal else []
        if len(self.problems) > most:
            lines.append(f"… and {len(self.problems) - most} more")
        return [*lines, "All files can be used." if self.is_sound else "Some files cannot be used."]


@dataclass(frozen=True)
class _Finding:
    size: tuple[int, int] | None
    points: int | None
    has_map: bool
    has_mask: bool
    problems: tuple[Problem, ...]


def check_dataset(name_or_dir: str | Path, *, progress: Progress | None = None) -> CheckReport:
    """Read every file of a named set or a folder. Raises DataError only where there is no such folder."""
    root = _root(name_or_dir)
    layout = find_layout(root)
    try:
        dataset = open_dataset(name_or_dir, split="all")
    except DataError as error:
        return _unopened(root, layout[0] if layout else None, error)
    with ThreadPoolExecutor(4) as pool:
        findings = []
        for finding in pool.map(lambda index: _look(dataset, index), range(len(dataset))):
            findings.append(finding)
            if progress is not None:
                progress(len(findings), len(dataset))
    splits = _splits(name_or_dir)
    counts = {split: len(names) for split, names in splits.items()}
    notes = (*_twins(dataset, splits), *_passed_over(root, dataset))
    return _report(root, layout[0] if layout else None, counts, len(dataset), findings, notes)


def _report(
    root: Path,
    layout: str | None,
    splits: dict[str, int],
    photos: int,
    findings: Sequence[_Finding],
    others: Iterable[Problem],
) -> CheckReport:
    usable = [finding for finding in findings if finding.size is not None]
    sizes = sorted((f.size for f in usable if f.size), key=lambda size: size[0] * size[1])
    return CheckReport(
        root=str(root),
        layout=layout,
        splits=splits,
        photos=photos,
        usable=len(usable),
        with_fixations=sum(finding.points is not None for finding in usable),
        with_maps=sum(finding.has_map for finding in usable),
        with_masks=sum(finding.has_mask for finding in usable),
        fixations=sum(finding.points or 0 for finding in usable),
        sizes=tuple(dict.fromkeys((sizes[0], sizes[-1]))) if sizes else (),
        problems=(*(problem for finding in findings for problem in finding.problems), *others),
    )


def _root(name_or_dir: str | Path) -> Path:
    if isinstance(name_or_dir, str) and name_or_dir in NAMED:
        return data_root() / name_or_dir
    root = Path(name_or_dir).expanduser()
    if not root.is_dir():
        raise DataError(
            f"There is no folder {root}.",
            field="data",
            value=str(root),
            remedy="Give the path of a data set.",
        )
    return root


def _unopened(root: Path, layout: str | None, error: DataError) -> CheckReport:
    """Where the files do not fit together: what is missing, and what is wrong with those that are there."""
    whole = Problem(str(root), error.message, error.remedy)
    fitting, missing = _fitting(root)
    if fitting is not None:
        findings = [_look(fitting, index) for index in range(len(fitting))]
        absent = sum(problem.file not in fitting.names for problem in missing)
        return _report(root, layout, {}, len(fitting) + absent, findings, missing or [whole])
    paths = [p for p in sorted(root.rglob("*")) if p.suffix.lower() in PHOTO_SUFFIXES]
    damaged = tuple(problem for path in paths for problem in _decoding(path))
    in_stimuli = [path for path in paths if STIMULI in path.relative_to(root).parts]
    return CheckReport(str(root), layout, {}, len(in_stimuli or paths), 0, 0, 0, 0, 0, (), (whole, *damaged))


def _fitting(root: Path) -> tuple[MapDataset | FixationDataset | None, list[Problem]]:
    """Of a user's own photos those that have a map or points, and of what the partner is missing."""
    try:
        if is_folder(root):
            return _with_maps(root)
        if find_table(root) and (root / STIMULI).is_dir():
            return _with_points(root)
    except DataError:
        pass
    return None, []


def _with_maps(root: Path) -> tuple[MapDataset, list[Problem]]:
    photos, maps = list_photos(root / STIMULI), _by_stem(root / MAPS)
    whole = tuple(photo for photo in photos if photo.stem in maps)
    missing = [
        Problem(photo.name, f"It has no map in {MAPS}.", f"Add {MAPS}/{photo.stem}.png, or remove the photo.")
        for photo in photos
        if photo.stem not in maps
    ]
    return MapDataset(root.name, "all", whole, tuple(maps[photo.stem] for photo in whole)), missing


def _with_points(root: Path) -> tuple[FixationDataset, list[Problem]]:
    points = read_points(root)
    there = [name for name in sorted(points) if (root / STIMULI / name).is_file()]
    missing = [
        Problem(name, f"It has fixations, but {STIMULI} does not hold it.", "Add it, or remove its rows.")
        for name in sorted(set(points) - set(there))
    ]
    photos = tuple(root / STIMULI / name for name in there)
    return FixationDataset(root.name, "all", photos, tuple(points[name] for name in there)), missing


def _by_stem(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES}


def _passed_over(root: Path, dataset: Dataset) -> Iterator[Problem]:
    """Files of a user's own photos that nothing is done with."""
    table = find_table(root)
    if isinstance(dataset, MapDataset) and is_folder(root):
        stems = {photo.stem for photo in dataset.photos}
        for stem, path in sorted(_by_stem(root / MAPS).items()):
            if stem not in stems:
                yield Problem(path.name, f"It is a map without a photo in {STIMULI}.", fatal=False)
        if table:
            why = f"It is passed over, for there is {MAPS}; NSS and AUC, which need points, are missing."
            yield Problem(table.name, why, fatal=False)
    elif isinstance(dataset, FixationDataset) and table and (root / STIMULI).is_dir():
        for photo in list_photos(root / STIMULI):
            if photo.name not in dataset.names:
                yield Problem(
                    photo.name, f"It is left out: {table.name} has no fixations of it.", fatal=False
                )


def _decoding(path: Path) -> Iterator[Problem]:
    try:
        read_photo(path)
    except DataError as error:
        yield Problem(str(path), error.message, error.remedy)


def _look(dataset: Dataset, index: int) -> _Finding:
    name = dataset.names[index]
    try:
        sample = dataset[index]
    except DataError as error:
        problem = Problem(_culprit(dataset, index, error), error.message, error.remedy)
        return _Finding(None, None, False, False, (problem,))
    problems = []
    if isinstance(dataset, FixationDataset | RecordedDataset):
        recorded = dataset.points_of(index)
        beside = len(recorded) - len(inside(recorded, sample.size))
        if beside:
            height, width = sample.size
            problems.append(
                Problem(
                    name,
                    f"{beside} of {len(recorded)} fixations lie outside the photo of {width}x{height}.",
                    "They are dropped. Coordinates are pixels of the stored photo, x first, from 0.",
                    fatal=False,
                )
            )
        elif len(recorded) == 0:
            problems.append(Problem(name, "Nobody's fixations are recorded for it.", fatal=False))
    points = None if sample.fixations is None else len(sample.fixations)
    has_map = isinstance(dataset, MapDataset) or getattr(dataset, "maps", None) is not None
    return _Finding(sample.size, points, has_map, sample.mask is not None, tuple(problems))


def _culprit(dataset: Dataset, index: int, error: DataError) -> str:
    """The file that an error is about, as far as it says so."""
    if error.field == "file":
        return str(error.value)
    if error.field in ("map", "mask"):
        of_photo = getattr(dataset, "maps", None) or getattr(dataset, "masks", ())
        return str(of_photo[index]) if of_photo else dataset.names[index]
    return dataset.names[index]


def _splits(name_or_dir: str | Path) -> dict[str, tuple[str, ...]]:
    found = {}
    for split in ("train", "val"):
        try:
            found[split] = open_dataset(name_or_dir, split=split).names
        except DataError:
            continue  # Sets of object masks only test.
    return found


def _twins(dataset: Dataset, splits: dict[str, tuple[str, ...]]) -> Iterator[Problem]:
    """Photos with the very same bytes in the training and the validation split."""
    if not isinstance(dataset, PhotoFiles):
        return
    training = set(splits.get("train", ()))
    seen: dict[bytes, str] = {}
    for name, path in zip(dataset.names, dataset.photos, strict=True):
        digest = blake2b(path.read_bytes(), digest_size=16).digest()
        twin = seen.setdefault(digest, name)
        if twin != name and (twin in training) != (name in training):
            yield Problem(
                name,
                f"It is the same photo as {twin}; one trains, the other validates.",
                "Remove one of them.",
                fatal=False,
            )
