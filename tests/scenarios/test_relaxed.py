"""Level ``relaxed``: what is acknowledged before it is on disk, and what a crash may not take beyond that."""

from __future__ import annotations

from tests.support.core import RELAXED, Core


def test_identifiers_of_what_is_on_no_disk_are_not_given_again_in_any_of_the_next_lives() -> None:
    # Their receiver may still have them open, and would take another message for a repetition.
    core = Core()
    core.grant("relaxed", durability=RELAXED)
    client = core.keep("c", user_name="relaxed")
    client.subscribe("t", qos=2)
    given: list[int] = []
    for _ in range(5):
        core.hold()
        publisher = core.connect("p", user_name="relaxed")
        for _ in range(20):
            publisher.publish("t", b"lost", 2)
        given += [one.packet_id for one in client.publishes()]
        core = core.crash(down_s=0.001)
        client = core.resume("c", user_name="relaxed")
    assert len(set(given)) == 100
    core.end()
