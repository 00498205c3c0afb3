"""What the numbers say of defaults, of recipes, and of what papers found."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from jaxplain.evaluation._table import arrow, markdown_table

from .boards import RANKED, Board
from .rows import CONTROLS
from .statistics import agreement, difference, holm, interval, matrix, mean_places

DEFAULTS: dict[str, tuple[str, ...]] = {
    "LRP's composite": (
        *("lrp, epsilon_plus", "lrp, epsilon", "lrp, epsilon_plus_flat", "lrp, epsilon_gamma_box"),
        *("lrp, epsilon_alpha2_beta1_flat", "lrp, sequential_preset_a", "lrp, epsilon_plus without biases"),
        *("lrp, attn_lrp", "lrp, cp_lrp"),
    ),
    "Contrastive LRP's composite": ("contrastive_lrp, z_plus", "contrastive_lrp, epsilon_plus_flat"),
    "Grad-CAM's layer": ("grad_cam, last", "grad_cam, before the last activation", "grad_cam, middle"),
    "LayerCAM's layer": ("layer_cam, last", "layer_cam, before the last activation", "layer_cam, middle"),
    "Score-CAM's score": ("score_cam, by output, 32 channels", "score_cam, by probability, 32 channels"),
    "SmoothGrad's noise and samples": (
        "smoothgrad, stdev 0.15, 20 samples",
        *("smoothgrad, stdev 0.05, 20 samples", "smoothgrad, stdev 0.3, 20 samples"),
        *("smoothgrad, stdev 0.15, 5 samples", "smoothgrad, squared, 20 samples"),
    ),
    "The baseline of integrated gradients": (
        "integrated_gradients, from the mean",
        *("integrated_gradients, from black", "integrated_gradients, from white", "blur_integrated_gradients"),
    ),
    "DeepLIFT's baseline": ("deeplift, from the mean", "deeplift, from black"),
}
"""Question -> the default, and what stands against it."""


def defaults(boards: Sequence[Board]) -> Iterable[str]:
    """Each default against its alternatives."""
    yield "# Defaults, by what was measured"
    yield (
        "The gain over the default on the same images, positive where the alternative is better, with its 95 % "
        "interval of Student's t; a star where p ≤ 0.05, corrected by Holm for all comparisons of a question on a "
        "network."
    )
    for question, (default, *others) in DEFAULTS.items():
        yield f"## {question}: `{default}`"
        yield markdown_table(["alternative", "network", *RANKED], gains(boards, default, others))


def gains(boards: Sequence[Board], default: str, others: Sequence[str]) -> Iterable[list[str]]:
    """The rows of one question."""
    for board in boards:
        asked = [o for o in others if {o, default} <= set(board.measured(*RANKED))]
        found = {(o, m): difference(board.table, o, default, m, b) for o in asked for m, b in RANKED.items()}
        sure = dict(zip(found, (p <= 0.05 for p in holm([d.p for d in found.values()])), strict=True))
        for other in asked:
            yield [other, board.name, *(f"{found[other, m]}{' *' if sure[other, m] else ''}" for m in RANKED)]


# ------------------------------------------------------------------------------------------------------------ recipes


def halves(board: Board) -> tuple[set[str], set[str]]:
    """Every second image by name to choose by, and the others to report on."""
    metrics = {m: sorted(board.table[CONTROLS[0]][m]) for m in ("insertion", "grid_pointing_game")}
    choosing = {image for images in metrics.values() for image in images[::2]}
    return choosing, {image for images in metrics.values() for image in images} - choosing


def of_images(board: Board, labels: Sequence[str], images: set[str]) -> dict:
    """The table of some labels on some images."""
    return {
        label: {m: {i: v for i, v in board.table[label][m].items() if i in images} for m in RANKED} for label in labels
    }


def chosen_recipe(board: Board) -> tuple[str, dict[str, str]]:
    """The recipe with the best mean place on the first half, and the best single method in each metric there."""
    choosing, _ = halves(board)
    singles = board.measured(*RANKED)
    candidates = [r for r in board.recipes if r in board.table and board.table[r].keys() >= set(RANKED)]
    table = of_images(board, [*singles, *candidates], choosing)
    places = mean_places(table, list(table), RANKED)
    best = {
        metric: max(singles, key=lambda s, m=metric, d=better: mean_of(table, s, m) * (1 if d == "higher" else -1))
        for metric, better in RANKED.items()
    }
    return min(candidates, key=lambda r: places[r].mean), best


def mean_of(table: Mapping, label: str, metric: str) -> float:
    """The mean over the images."""
    return float(np.mean(list(table[label][metric].values())))


def recipes(boards: Sequence[Board]) -> Iterable[str]:
    """Whether a combination beats the best single method in every metric."""
    boards = [
        board for board in boards if any(label in board.measured(*RANKED, recipes=True) for label in board.recipes)
    ]
    if not boards:
        return
    first = boards[0]
    recipe, best = chosen_recipe(first)
    _, reporting = halves(first)
    yield "# Better than every single method?"
    yield (
        "Products and means of methods, of at most ten passes, listed in `benchmarks/evidence/rows.py` before the "
        f"first of them was measured. Every second image of {first.name} by name chose, by the mean place in "
        f"insertion, deletion and the grid pointing game: **{recipe}**. The table has its gain over the method that is "
        f"the best in each metric on the choosing half, on the others of {first.name} and on all images of other "
        "networks, paired, with 95 % intervals. The best method of a network is that of its own first half."
    )
    rows = []
    for board in boards:
        if recipe not in board.measured(*RANKED, recipes=True):
            continue
        own = best if board is first else chosen_recipe(board)[1]
        images = reporting if board is first else None
        for metric, better in RANKED.items():
            d = difference(board.table, recipe, own[metric], metric, better, images)
            rows.append([board.name, metric, own[metric], str(d), f"{d.gain.n}"])
    yield markdown_table(["network", "metric", "best single method", "gain of the recipe", "n"], rows)
    yield "![What no other beats, on every network](fronts.svg)"
    for board in boards:
        yield f"## The front, {board.name}"
        yield "Methods and recipes that no other beats in all three means; the best of each is bold."
        yield front_table(board)


def front(board: Board) -> list[str]:
    """The labels that no other is at least as good as in every metric."""
    labels = board.measured(*RANKED, recipes=True)
    sign = np.array([1 if better == "higher" else -1 for better in RANKED.values()])
    means = np.array([[mean_of(board.table, label, m) for m in RANKED] for label in labels]) * sign
    beaten = [any((other >= own).all() and (other > own).any() for other in means) for own in means]
    return [label for label, is_beaten in zip(labels, beaten, strict=True) if not is_beaten]


def front_table(board: Board) -> str:
    """The front with its means."""
    labels = board.measured(*RANKED, recipes=True)
    extreme = {
        m: (max if b == "higher" else min)(mean_of(board.table, label, m) for label in labels)
        for m, b in RANKED.items()
    }
    rows = []
    for label in front(board):
        cells = []
        for metric in RANKED:
            text = str(interval(np.array(list(board.table[label][metric].values()))))
            cells.append(f"**{text}**" if mean_of(board.table, label, metric) == extreme[metric] else text)
        rows.append([f"{label}{' (recipe)' if label in board.recipes else ''}", *cells])
    return markdown_table(["method", *(f"{m}{arrow(b)}" for m, b in RANKED.items())], rows)


# ----------------------------------------------------------------------------------------------- published findings


def published(boards: Sequence[Board]) -> Iterable[str]:
    """Claims of papers, one by one, beside what was measured here."""
    yield "# What papers found, measured again"
    yield (
        "Each claim as a comparison of two numbers on the same images, with the 95 % interval of the difference. "
        "*Holds*: the interval lies on the side of the claim; *contradicted*: on the other side; else *open*. Of "
        "orders there is Spearman's rank correlation, with an interval of a bootstrap over images."
    )
    rows = [row for board in boards for row in claims(board)]
    yield markdown_table(["claim", "paper", "network", "measured", ""], rows)


ADEBAYO, RAO = "Adebayo et al. 2018", "Rao, Böhle, Schiele 2022"
COMPARISONS = (  # claim, paper, the better label by it, the other one, metric, which direction of it
    (
        *("guided backprop depends less on the weights than the gradient", ADEBAYO),
        *("guided_backprop", "gradient", "randomised weights", "higher"),
    ),
    (
        *("guided Grad-CAM depends less on the weights than Grad-CAM", ADEBAYO),
        *("guided_grad_cam, last", "grad_cam, last", "randomised weights", "higher"),
    ),
    (
        *("guided backprop depends less on the class than the gradient", "Sixt, Granz, Landgraf 2020"),
        *("guided_backprop", "gradient", "randomised class", "higher"),
    ),
    (
        *("Grad-CAM of the last layer localises better than of a middle one", RAO),
        *("grad_cam, last", "grad_cam, middle", "grid_pointing_game", "higher"),
    ),
    (
        *("Grad-CAM of the last layer localises better than the gradient", RAO),
        *("grad_cam, last", "gradient", "grid_pointing_game", "higher"),
    ),
    (
        *("Grad-CAM's means over the whole map mix up cells that do not see each other", RAO),
        *("hires_cam, last", "grad_cam, last", "difull", "higher"),
    ),
    (
        *("LayerCAM, too, tells cells apart that do not see each other", RAO),
        *("layer_cam, last", "grad_cam, last", "difull", "higher"),
    ),
    (
        *("averaging over noise makes the gradient more stable", "Smilkov et al. 2017"),
        *("smoothgrad, stdev 0.15, 20 samples", "gradient", "max_sensitivity", "lower"),
    ),
    (
        *("squared SmoothGrad removes better than SmoothGrad", "Hooker et al. 2019"),
        *("smoothgrad, squared, 20 samples", "smoothgrad, stdev 0.15, 20 samples", "deletion", "lower"),
    ),
    (
        *("contrastive LRP tells classes apart better than LRP", "Gu, Yang, Tresp 2018"),
        *("contrastive_lrp, z_plus", "lrp, epsilon_plus", "grid_pointing_game", "higher"),
    ),
)
ORDERS = (  # claim, paper, and two metrics, each with its better direction
    (
        *("metrics of faithfulness order methods differently", "Tomsett et al. 2020"),
        *(("insertion", "higher"), ("deletion", "lower")),
    ),
    (
        *("who depends most on the weights is not who is most faithful", "Binder et al. 2023"),
        *(("randomised weights", "lower"), ("insertion", "higher")),
    ),
    (
        *("with debiased imputation both orders of removal agree", "Rong et al. 2022"),
        *(("road", "lower"), ("road, least relevant first", "higher")),
    ),
    (
        *("with a mean image they agree less", "Rong et al. 2022"),
        *(("deletion", "lower"), ("insertion into the mean", "higher")),
    ),
)


def claims(board: Board) -> Iterable[list[str]]:
    """The claims that the records of a network can answer."""
    for claim, paper, one, two, metric, better in COMPARISONS:
        if all(metric in board.table.get(label, {}) for label in (one, two)):
            d = difference(board.table, one, two, metric, better)
            verdict = "open" if abs(d.gain.mean) <= d.gain.half else "holds" if d.gain.mean > 0 else "contradicted"
            yield [claim, paper, board.name, f"{metric}: {d}, n = {d.gain.n}", verdict]
    for claim, paper, *both in ORDERS:
        labels = board.measured(*(metric for metric, _ in both))
        if board.of_most(*(metric for metric, _ in both)):
            common = set.intersection(*(set(board.table[label][metric]) for label in labels for metric, _ in both))
            pair = (
                matrix(board.table, labels, metric, common) * (1 if better == "higher" else -1)
                for metric, better in both
            )
            yield [claim, paper, board.name, f"rank correlation {agreement(*pair)}, {len(labels)} methods", ""]
