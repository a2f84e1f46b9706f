"""What is segmented: names, ids and colours, in one place for help, files, tables and pictures."""

import colorsys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.choose import choose
from medseg.errors import RecipeError

# Organs keep one colour in every picture, close to what anatomy atlases use.
ORGAN_COLOURS: dict[str, tuple[int, int, int]] = {
    "spleen": (222, 90, 178),
    "liver": (214, 120, 40),
    "kidney_right": (80, 200, 120),
    "kidney_left": (40, 160, 220),
    "kidney": (80, 200, 120),
    "stomach": (240, 220, 90),
    "aorta": (230, 50, 50),
    "spine": (235, 225, 190),
    "anterior": (240, 200, 60),
    "posterior": (70, 180, 230),
}


# What a label shows, as SNOMED CT code and meaning: the words that DICOM's context groups have for it (PS3.16, such as
# CID 7140 and 7151). Sides are told apart by a modifier, so that both kidneys are one line.
ORGAN_CODES: dict[str, tuple[str, str]] = {
    "adrenal_gland": ("23451007", "Adrenal gland"),
    "aorta": ("15825003", "Aorta"),
    "atrial_appendage_left": ("33626005", "Left auricular appendage"),
    "bladder": ("89837001", "Bladder"),
    "brachiocephalic_trunk": ("12691009", "Brachiocephalic trunk"),
    "brachiocephalic_vein": ("8887007", "Brachiocephalic vein"),
    "brain": ("12738006", "Brain"),
    "clavicula": ("51299004", "Clavicle"),
    "colon": ("71854001", "Colon"),
    "common_carotid_artery": ("32062004", "Common carotid artery"),
    "costal_cartilages": ("50016007", "Costal Cartilage"),
    "duodenum": ("38848004", "Duodenum"),
    "esophagus": ("32849002", "Esophagus"),
    "femur": ("71341001", "Femur"),
    "gallbladder": ("28231008", "Gallbladder"),
    "heart": ("80891009", "Heart"),
    "hippocampus": ("5366008", "Hippocampus"),
    "humerus": ("85050009", "Humerus"),
    "iliac_artery": ("10293006", "Iliac artery"),
    "iliac_vena": ("244411005", "Iliac vein"),
    "inferior_vena_cava": ("64131007", "Inferior vena cava"),
    "kidney": ("64033007", "Kidney"),
    "left_atrium": ("82471001", "Left atrium"),
    "liver": ("10200004", "Liver"),
    "lung": ("39607008", "Lung"),
    "lung_lower_lobe": ("90572001", "Lower lobe of lung"),
    "lung_middle_lobe": ("72481006", "Middle lobe of right lung"),
    "lung_upper_lobe": ("45653009", "Upper lobe of lung"),
    "oesophagus": ("32849002", "Esophagus"),
    "pancreas": ("15776009", "Pancreas"),
    "postcava": ("64131007", "Inferior vena cava"),
    "prostate": ("41216001", "Prostate"),
    "pulmonary_vein": ("122972007", "Pulmonary vein"),
    "pz": ("279706003", "Peripheral zone of the prostate"),
    "rib": ("113197003", "Rib"),
    "sacrum": ("54735007", "Sacrum"),
    "scapula": ("79601000", "Scapula"),
    "skull": ("89546000", "Skull"),
    "small_bowel": ("30315005", "Small intestine"),
    "spinal_cord": ("2748008", "Spinal cord"),
    "spine": ("421060004", "Spine"),
    "spleen": ("78961009", "Spleen"),
    "sternum": ("56873002", "Sternum"),
    "stomach": ("69695003", "Stomach"),
    "subclavian_artery": ("36765005", "Subclavian artery"),
    "superior_vena_cava": ("48345005", "Superior vena cava"),
    "thyroid_gland": ("69748006", "Thyroid"),
    "trachea": ("44567001", "Trachea"),
    "tz": ("399384005", "Transition zone of the prostate"),
    "urinary_bladder": ("89837001", "Bladder"),
    "vertebrae_c1": ("14806007", "C1 vertebra"),
    "vertebrae_c2": ("39976000", "C2 vertebra"),
    "vertebrae_c3": ("113205007", "C3 vertebra"),
    "vertebrae_c4": ("5329002", "C4 vertebra"),
    "vertebrae_c5": ("36978003", "C5 vertebra"),
    "vertebrae_c6": ("36054005", "C6 vertebra"),
    "vertebrae_c7": ("87391001", "C7 vertebra"),
    "vertebrae_t1": ("64864005", "T1 vertebra"),
    "vertebrae_t2": ("53733008", "T2 vertebra"),
    "vertebrae_t3": ("1626008", "T3 vertebra"),
    "vertebrae_t4": ("73071006", "T4 vertebra"),
    "vertebrae_t5": ("56401006", "T5 vertebra"),
    "vertebrae_t6": ("45296009", "T6 vertebra"),
    "vertebrae_t7": ("62487009", "T7 vertebra"),
    "vertebrae_t8": ("11068009", "T8 vertebra"),
    "vertebrae_t9": ("82687006", "T9 vertebra"),
    "vertebrae_t10": ("7610001", "T10 vertebra"),
    "vertebrae_t11": ("12989004", "T11 vertebra"),
    "vertebrae_t12": ("23215003", "T12 vertebra"),
    "vertebrae_l1": ("66794005", "L1 vertebra"),
    "vertebrae_l2": ("14293000", "L2 vertebra"),
    "vertebrae_l3": ("36470004", "L3 vertebra"),
    "vertebrae_l4": ("11994002", "L4 vertebra"),
    "vertebrae_l5": ("49668003", "L5 vertebra"),
    "vessel": ("59820001", "Blood Vessel"),
}
# What disease has changed is of another category than anatomy.
LESION_CODES: dict[str, tuple[str, str]] = {
    "cancer": ("108369006", "Neoplasm"),
    "colon_cancer_primaries": ("372087000", "Neoplasm, Primary"),
    "edema": ("79654002", "Edema"),
    "enhancing_tumor": ("108369006", "Neoplasm"),
    "enhancing_tumour": ("108369006", "Neoplasm"),
    "kidney_cyst": ("367643001", "Cyst"),
    "lesion": ("52988006", "Lesion"),
    "necrosis": ("6574001", "Necrosis"),
    "non-enhancing_tumor": ("108369006", "Neoplasm"),
    "tumor": ("108369006", "Neoplasm"),
    "tumour": ("108369006", "Neoplasm"),
}
SIDE_CODES: dict[str, tuple[str, str]] = {"left": ("7771000", "Left"), "right": ("24028007", "Right")}
# The categories of CID 7150.
ANATOMY = ("91723000", "Anatomical Structure")
ABNORMAL = ("49755003", "Morphologically Abnormal Structure")
# A label that no line above names is coded as no more than tissue; its own name says what it is.
TISSUE = ("85756007", "Tissue")


@dataclass(frozen=True)
class Coded:
    """What a label shows, in SNOMED CT: each as code and meaning.

    Attributes:
        category: an anatomical structure, a morphologically abnormal one, or tissue.
        type: the organ or lesion; tissue where it is not known.
        side: left or right, or None.
    """

    category: tuple[str, str]
    type: tuple[str, str]
    side: tuple[str, str] | None


@dataclass(frozen=True)
class Label:
    """One thing to segment.

    Attributes:
        id: its value in a label map, at least 1.
        name: its name, lower case without spaces.
        parts: the ids of the dataset's label maps that make it up; one, except for merged labels and regions.
        colour: red, green and blue, 0 to 255.
    """

    id: int
    name: str
    parts: tuple[int, ...]
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class LabelSet:
    """The labels of a dataset or a model, in the order of the network's channels; background (0) is implied.

    Attributes:
        labels: the labels; a later one is painted over an earlier one where regions overlap.
        known_ids: every id that a label map of the dataset may hold, background and unused labels included.
        ignored_ids: those among them that say that a voxel is not labelled: it may be anything.
    """

    labels: tuple[Label, ...]
    known_ids: frozenset[int]
    ignored_ids: frozenset[int] = frozenset()

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def beyond(self) -> int:
        """The id of voxels that no scan covers: background, or where a dataset has such an id, not labelled."""
        return min(self.ignored_ids, default=0)

    @property
    def overlapping(self) -> bool:
        """Whether an id belongs to more than one label, so that the network needs a sigmoid head."""
        parts = [part for label in self.labels for part in label.parts]
        return len(parts) != len(set(parts))

    @classmethod
    def from_names(cls, names: Mapping[int, str]) -> "LabelSet":
        """Build from id → name, each label its own part. Id 0 is background and left out.

        Raises:
            RecipeError: two ids have one name.
        """
        _check_names([name for id_, name in names.items() if id_ != 0])
        labels = [
            Label(id=id_, name=name, parts=(id_,), colour=colour_of(name, id_))
            for id_, name in sorted((i, tidy(n)) for i, n in names.items())
            if id_ != 0
        ]
        return cls(labels=tuple(labels), known_ids=frozenset({0, *names}))

    @classmethod
    def from_ids(cls, ids: Iterable[int]) -> "LabelSet":
        """Build from ids that come without names: 7 is called "label_7"."""
        return cls.from_names({0: "background", **{id_: f"label_{id_}" for id_ in ids}})

    @property
    def nameless(self) -> bool:
        """Whether every label is called as in `from_ids`."""
        return self.labels == LabelSet.from_ids(label.id for label in self.labels).labels

    def with_ids(self, ids: Iterable[int]) -> "LabelSet":
        """Return the set with a label, as in `from_ids`, for each id that it does not know."""
        more = LabelSet.from_ids(set(ids) - self.known_ids)
        return LabelSet((*self.labels, *more.labels), self.known_ids | more.known_ids, self.ignored_ids)

    def ignoring(self, ids: Collection[int]) -> "LabelSet":
        """Return the set of a dataset in which these ids say that a voxel is not labelled."""
        return replace(self, known_ids=self.known_ids.union(ids), ignored_ids=frozenset(ids))

    def only(self, names: Collection[str]) -> "LabelSet":
        """Return the set of a case that lacks every label but these: it does not know their ids.

        Raises:
            UnknownNameError: a name that this set does not have.
        """
        by_name = {label.name: label for label in self.labels}
        kept = {choose(by_name, tidy(name), kind="label") for name in names}
        lacking = {part for label in self.labels if label not in kept for part in label.parts}
        labels = tuple(label for label in self.labels if label in kept)
        return replace(self, labels=labels, known_ids=self.known_ids - lacking)

    def present_in(self, case: "LabelSet") -> "LabelSet":
        """Return those of these labels that a case has; of a merged one it has to have all parts."""
        return replace(self, labels=tuple(label for label in self.labels if case.known_ids.issuperset(label.parts)))

    def as_json(self) -> dict[str, Any]:
        """Return the set as plain lists, for model.json and run.json."""
        ids = {"known_ids": sorted(self.known_ids), "ignored_ids": sorted(self.ignored_ids)}
        return {"labels": [asdict(label) for label in self.labels], **ids}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "LabelSet":
        """Build a set from what `as_json` returned."""
        labels = tuple(
            Label(int(entry["id"]), str(entry["name"]), tuple(entry["parts"]), tuple(entry["colour"]))
            for entry in value["labels"]
        )
        return cls(labels, frozenset(value["known_ids"]), frozenset(value.get("ignored_ids", ())))

    def select(self, chosen: Mapping[str, Sequence[str]] | None) -> "LabelSet":
        """Return the labels a recipe asks for, made from these.

        Args:
            chosen: new name → the names of the labels that make it up; None keeps all. A label keeps the id of its
                first part, so predictions and references speak the same ids; a region that overlaps others, of its
                first part that lies in none but those around all of it, for in a label map its id stands for it.

        Raises:
            UnknownNameError: a part that this set does not have.
            RecipeError: two labels of the same name or parts, a region after one that lies within it, or one of which
                every part lies in others.
        """
        if chosen is None:
            return self
        _check_names(list(chosen))
        by_name = {label.name: label for label in self.labels}
        made_of: dict[str, tuple[int, ...]] = {}
        for name, parts in chosen.items():
            sources = [choose(by_name, tidy(part), kind="label") for part in parts]
            made_of[tidy(name)] = tuple(id_ for source in sources for id_ in source.parts)
        for inner, outer in combinations(made_of, 2):
            if set(made_of[inner]) < set(made_of[outer]):
                raise RecipeError(
                    f"labels {', '.join(chosen)}",
                    found=f"{outer} comes after {inner}, and is painted over the whole of it",
                    remedy="name the outermost region first",
                )
        labels: list[Label] = []
        for name, ids in made_of.items():
            own = _own_id(name, made_of)
            if own is None:
                raise RecipeError(
                    f"labels {', '.join(chosen)}",
                    found=f"every part of {name} lies in another label, too, so that no id could stand for it",
                    remedy=f"leave {name} out, or give it a part of its own",
                )
            labels.append(Label(own, name, ids, colour_of(name, ids[0])))
        if len({frozenset(ids) for ids in made_of.values()}) < len(made_of):
            raise RecipeError(
                f"labels {', '.join(chosen)}",
                found="two of them are made of the same parts, and so would share an id",
                remedy="leave one of them out",
            )
        return replace(self, labels=tuple(labels))

    def encode_table(self) -> NDArray[np.uint8]:
        """Return the table that turns a label map's ids into channels: shape (labels, highest known id + 1), 0 or 1."""
        table = np.zeros((len(self.labels), max(self.known_ids) + 1), np.uint8)
        for row, label in enumerate(self.labels):
            table[row, list(label.parts)] = 1
        return table

    def mask(self, label_map: NDArray[np.integer], label: Label) -> NDArray[np.bool_]:
        """Return where a label map shows this label: a region is the union of its parts."""
        if len(label.parts) == 1:
            return np.asarray(label_map == label.parts[0])
        return np.isin(label_map, label.parts)


def _own_id(name: str, made_of: Mapping[str, tuple[int, ...]]) -> int | None:
    """Return the first of a label's ids that no other has but those that hold all of it; None where there is none."""
    whole = set(made_of[name])
    beside = [set(ids) for other, ids in made_of.items() if other != name and not whole <= set(ids)]
    return next((id_ for id_ in made_of[name] if not any(id_ in ids for ids in beside)), None)


def _check_names(names: Sequence[str]) -> None:
    """Check that names differ in more than their capitals and spaces."""
    if found := alike(names):
        raise RecipeError(
            f"labels {', '.join(names)}",
            found=f"{found[0]!r} and {found[1]!r} are one name",
            remedy="rename one of them",
        )


def alike(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two names that `tidy` makes one, or None."""
    seen: dict[str, str] = {}
    for name in names:
        if tidy(name) in seen:
            return seen[tidy(name)], name
        seen[tidy(name)] = name
    return None


def tidy(name: str) -> str:
    """Return a label's name as medseg writes it: 'Left Kidney' → 'left_kidney'."""
    return "_".join(name.strip().lower().split())


def colour_of(name: str, id_: int) -> tuple[int, int, int]:
    """Return a label's colour: an organ's own, or else a hue by id, well apart from its neighbours'.

    Hues step by the golden ratio, which keeps any number of consecutive ids apart on the colour circle.
    """
    if name in ORGAN_COLOURS:
        return ORGAN_COLOURS[name]
    red, green, blue = colorsys.hsv_to_rgb((id_ * 0.618033988749895) % 1.0, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def coded(name: str) -> Coded:
    """Return a label's SNOMED CT codes by its name, with or without a side or a number: 'kidney_left', 'rib_left_8'."""
    words = name.split("_")
    plain = [word for word in words if word not in SIDE_CODES]
    side = next((SIDE_CODES[word] for word in words if word in SIDE_CODES), None)
    for known, its_side in (
        (name, None),
        ("_".join(plain), side),
        ("_".join(word for word in plain if not word.isdigit()), side),
    ):
        if known in ORGAN_CODES:
            return Coded(ANATOMY, ORGAN_CODES[known], its_side)
        if known in LESION_CODES:
            return Coded(ABNORMAL, LESION_CODES[known], its_side)
    return Coded(TISSUE, TISSUE, side)
