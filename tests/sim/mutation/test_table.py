"""The table of mutants: from what jobs found, by part."""

from sim.mutation.table import score, score_markdown

FOUND = [
    {
        "mutants": 6,
        "of part": {"lane": 3, "pool": 3},
        "killed": {"lane, token": 2, "pool, hang": 1, "pool, crash": 1},
        "killed within cycles": {"lane, 100": 1, "lane, 1,000": 1, "pool, 10": 2},
        "proved equivalent": {"lane": 1},
        "argued": {"pool": 1},
        "survivors": [],
        "tools": ["a"],
    },
    {
        "mutants": 20,
        "of part": {"lane": 20},
        "killed": {"lane, token": 10, "lane, latency": 3, "lane, cycle": 4, "lane, counter": 1},
        "killed within cycles": {"lane, 100": 18},
        "proved equivalent": {},
        "survivors": ["lane: b", "lane: a"],
        "tools": ["a"],
    },
    {"faults by hand": 1, "by hand, of part": {"lane": 1}, "by hand, killed": {"lane, token": 1}, "by hand, survivors": []},
    {"faults by hand": 1, "by hand, of part": {"link": 1}, "by hand, killed": {}, "by hand, survivors": ["link: c"]},
]


def test_rows():
    found = score(FOUND)
    lane, pool, link = found.rows
    assert (lane.part, lane.mutants, lane.equivalent, lane.survived) == ("lane", 23, 1, 2)
    assert lane.killed == {"events": 12, "cycles": 7, "counters": 1}
    assert (lane.half_within(), round(lane.percent, 1)) == (100, 90.9)
    assert (pool.killed, pool.argued, pool.survived, pool.percent, pool.half_within()) == ({"hang": 2}, 1, 0, 100.0, 10)
    assert (link.mutants, link.percent, link.half_within(), link.by_hand, link.by_hand_killed) == (0, 100.0, 0, 1, 0)
    assert found.below == ["lane"]
    assert found.survivors == ["lane: a", "lane: b", "link: c"]


def test_nothing_found():
    assert score([]).rows == [] and score([]).below == []


def test_a_page():
    text = score_markdown(score(FOUND)).splitlines()
    assert text[0].startswith("| part | mutants | killed by events | killed by cycles |")
    assert text[2] == "| lane | 23 | 12 | 7 | 1 | 0 | 100 | 1 | 0 | 2 | 90.9 % | 1 of 1 |"
    assert text[4] == "| link | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 100.0 % | 0 of 1 |"
