import json
from pathlib import Path

import pytest

import jaxplain
from jaxplain._taxonomy import METHODS
from jaxplain.cli import main
from jaxplain.evaluation._recommend import GOALS, shipped

ROOT = Path(__file__).parents[1]
BETTER = {"insertion": "higher", "deletion": "lower", "grid_pointing_game": "higher", "max_sensitivity": "lower"}


def number(mean, *better_than):
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "n": 10, "better_than": list(better_than)}


def entry(method, insertion, deletion, seconds, *better_than):
    metrics = {"insertion": number(insertion, *better_than), "deletion": number(deletion, *better_than)}
    return {"method": method, "metrics": metrics, "seconds_per_image": seconds}


EVIDENCE = {
    "about": {"network": "a network", "data": "images", "versions": "1", "timing": "a machine", "better": BETTER},
    "controls": ["noise"],
    "methods": {
        "noise": entry("", 0.9, 0.0, 0.01),
        "gradient": entry("gradient", 0.3, 0.3, 0.1),
        "lrp one": entry("lrp", 0.6, 0.1, 0.2, "noise"),
        "lrp two": entry("lrp", 0.5, 0.4, 0.2, "noise"),
        "rise": entry("rise", 0.7, 0.2, 9.0, "noise"),
    },
}


def labels(*goals, **conditions):
    return [c.label for c in jaxplain.recommend(goals or ("faithfulness",), evidence=EVIDENCE, **conditions).choices]


def test_the_order_is_that_of_the_numbers():
    assert labels() == ["lrp one", "rise", "gradient", "lrp two"]  # mean places 1.5, 1.5, 3.5, 3.5
    assert labels("speed") == ["gradient", "lrp one", "lrp two", "rise"]


def test_other_numbers_another_order():
    changed = json.loads(json.dumps(EVIDENCE))
    for name, mean in (("insertion", 0.99), ("deletion", 0.01)):
        changed["methods"]["gradient"]["metrics"][name]["mean"] = mean
    assert jaxplain.recommend("faithfulness", evidence=changed).choices[0].label == "gradient"


def test_conditions():
    assert labels(without=["gradient", "layer"]) == ["rise"]
    assert labels(family="structure") == ["lrp one", "lrp two"]
    assert labels(mechanism=["sampled masks", "gradient"]) == ["rise", "gradient"]
    assert labels(max_seconds=0.15) == ["gradient"]
    assert labels(resolution="region") == ["rise"]
    assert labels(resolution=["region", "colour"], max_cost=2) == ["lrp one", "gradient", "lrp two"]
    assert labels(complete=True) == ["lrp one", "lrp two"]
    assert labels(class_discriminative=False) == []


def test_the_evidence_is_told():
    text = str(jaxplain.recommend("faithfulness", evidence=EVIDENCE))
    first, *rest = text.splitlines()
    assert first == "1. lrp one: relevance handed back unit by unit (Bach et al. 2015)"
    assert rest[0].strip() == ("insertion 0.600 (0.500 to 0.700, n = 10), place 2 of 4; better than the controls")
    assert "deletion 0.300 (0.200 to 0.400, n = 10), place 3 of 4; not better than the control: noise" in text
    assert "Measured with a network on images" in text
    assert "noise:" not in text


def test_what_was_not_measured_is_said():
    advice = jaxplain.recommend("localisation", evidence=EVIDENCE, family="perturbation")
    assert advice.choices == ()
    assert {"rise", "lime", "occlusion"} <= set(advice.unmeasured)
    assert "No method that was measured meets these conditions." in str(advice)
    advice = jaxplain.recommend("faithfulness", evidence=EVIDENCE, family="perturbation", max_seconds=1)
    assert advice.choices == ()
    assert "rise" not in advice.unmeasured


def test_seconds_are_asked_of_networks_where_they_were_taken():
    untimed = json.loads(json.dumps(EVIDENCE))
    untimed["about"]["timing"] = ""
    for entry in untimed["methods"].values():
        entry["seconds_per_image"] = None
    labels = lambda evidence: [
        c.label for c in jaxplain.recommend("faithfulness", evidence=evidence, max_seconds=1).choices
    ]
    assert labels([EVIDENCE, untimed]) == labels([EVIDENCE]) != []
    assert labels([untimed]) == []


def test_that_no_time_was_taken_is_said():
    untimed = json.loads(json.dumps(EVIDENCE))
    untimed["about"]["timing"] = ""
    assert str(jaxplain.recommend("speed", evidence=untimed)).endswith("Seconds per image were not taken.")
    assert "not taken" not in str(jaxplain.recommend("speed", evidence=EVIDENCE))


def test_mistakes():
    with pytest.raises(ValueError, match="unknown goal 'faithful': did you mean faithfulness"):
        jaxplain.recommend("faithful")
    with pytest.raises(ValueError, match="there is no goal: choose one or several of faithfulness"):
        jaxplain.recommend(())
    with pytest.raises(ValueError, match="unknown resolution 'pixels': did you mean pixel"):
        jaxplain.recommend(resolution="pixels")
    with pytest.raises(ValueError, match="unknown need"):
        jaxplain.recommend(without="labels")


def places(insertion, deletion):
    """Evidence of a network by the places of two methods."""
    entries = {
        label: {
            "method": method,
            "seconds_per_image": None,
            "metrics": {
                name: number(0.5) | {"place": place} for name, place in zip(("insertion", "deletion"), at, strict=True)
            },
        }
        for label, method, at in (("one", "lrp", insertion), ("two", "gradient", deletion))
    }
    about = {"network": f"network {insertion}", "data": "images", "versions": "1", "timing": "", "better": BETTER}
    return {"about": about, "controls": [], "methods": entries}


def test_over_the_networks_of_a_kind():
    boards = [places((1.5, 1.0), (3.0, 2.0)), places((4.5, 5.0), (1.0, 1.0))]
    labels = lambda evidence: [c.label for c in jaxplain.recommend("faithfulness", evidence=evidence).choices]
    assert [labels(board) for board in boards] == [["one", "two"], ["two", "one"]]
    advice = jaxplain.recommend("faithfulness", evidence=boards)
    assert [c.mean_place for c in advice.choices] == [1.75, 3.0]  # of 3, 2, 1, 1 and of 1.5, 1, 4.5, 5
    assert "insertion: mean place 2.0 on 2 networks" in str(advice)
    assert "network (4.5, 5.0): insertion 0.500 (0.400 to 0.600, n = 10), place 1 of 2" in str(advice)


def test_a_network_of_which_it_was_not_measured_has_no_say():
    other = json.loads(json.dumps(EVIDENCE))
    other["about"]["network"] = "another network"
    for method in other["methods"].values():
        del method["metrics"]["deletion"]
    both = lambda goal: jaxplain.recommend(goal, evidence=[other, EVIDENCE])
    assert [c.label for c in both("faithfulness").choices] == labels()
    assert "another network" not in str(both("faithfulness"))
    assert "another network" in str(both("speed"))


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("kind", ["convolutional", "transformer"])
def test_every_goal_has_an_answer_for_every_kind(goal, kind):
    assert jaxplain.recommend(goal, network=kind).choices


def test_the_shipped_networks():
    boards = shipped()
    names = [board["about"]["network"] for board in boards]
    assert len(set(names)) == len(names) >= 2
    for name in (*names, *(board["about"]["kind"] for board in boards)):
        assert jaxplain.recommend(network=name).choices
    with pytest.raises(ValueError, match="unknown network 'convolutionl': did you mean convolutional"):
        jaxplain.recommend(network="convolutionl")


def test_the_shipped_numbers_are_those_of_the_leaderboard():
    known = {name for names in GOALS.values() for name in names}
    for board in shipped():
        assert len({e["method"] for e in board["methods"].values()} - {""}) >= 15
        for entry in board["methods"].values():
            assert entry["method"] in METHODS or entry["method"] == ""
            assert set(entry["metrics"]) <= known
            assert all(number["low"] <= number["mean"] <= number["high"] for number in entry["metrics"].values())


def test_the_first_choice_is_that_of_the_table():
    page = (ROOT / "benchmarks" / "results" / "leaderboard.md").read_text("utf-8")
    names = [name for name in (board["about"]["network"] for board in shipped()) if f"\n## {name}\n" in page]
    assert names
    for name in names:
        table = page.partition(f"\n## {name}\n")[2].partition("|---")[2]
        first = table.splitlines()[1].split("|")[1].strip()
        assert jaxplain.recommend(network=name).choices[0].label == first


def test_on_the_command_line(capsys):
    assert main(["recommend", "--goal", "faithfulness", "--without", "layer", "--top", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("1. ")
    assert "more that were measured" in out
    assert main(["recommend", "--network", "EfficientNet-Lite0", "--top", "1"]) == 0
    assert "VGG" not in capsys.readouterr().out
    assert main(["recommend", "--goal", "beauty"]) == 2
    assert "unknown goal 'beauty'" in capsys.readouterr().err
