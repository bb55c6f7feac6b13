"""The ledger judges histories that are written here by hand: what it calls broken, and what it lets pass."""

from __future__ import annotations

from tests.crash.ledger import (
    DAMAGED,
    DOUBLED,
    GHOST,
    LOST,
    REFUSED,
    REORDERED,
    Inbox,
    Ledger,
    Message,
    Stream,
    matches,
)

QOS1, QOS2 = Stream("t/1", 1), Stream("t/2", 2)


def subscribed(ledger: Ledger, topic_filter: str = "t/#") -> Inbox:
    inbox = ledger.inbox("receiver")
    inbox.subscribed(inbox.ask(topic_filter))
    return inbox


def arrive(inbox: Inbox, message: Message, connection: int = 1, *, answer: bool = True) -> None:
    once = message.stream.qos == 2
    assert inbox.arrived(message.payload, message.stream.topic_name, connection, once=once) is message
    if answer:
        inbox.answered(message)


def kinds(ledger: Ledger) -> list[str]:
    return [one.kind for one in ledger.findings]


def test_an_accepted_message_is_owed_until_it_is_answered() -> None:
    ledger = Ledger()
    inbox = subscribed(ledger)
    first, second = ledger.send(QOS1, 20), ledger.send(QOS1, 20)
    ledger.accepted(first)
    ledger.accepted(second)
    arrive(inbox, first)
    arrive(inbox, second, answer=False)
    assert list(inbox.owed) == [second.number]
    inbox.write_off("it did not come")
    assert kinds(ledger) == [LOST]


def test_a_message_that_nobody_accepted_is_not_owed() -> None:
    ledger = Ledger()
    inbox = subscribed(ledger)
    ledger.send(QOS1, 20)
    assert not inbox.owed


def test_what_was_answered_before_its_publisher_heard_of_it_is_not_owed() -> None:
    ledger = Ledger()
    inbox = subscribed(ledger)
    message = ledger.send(QOS1, 20)
    arrive(inbox, message)
    ledger.accepted(message)
    assert not inbox.owed
    assert not ledger.findings


def test_nothing_is_owed_to_a_subscription_that_was_not_acknowledged_before_the_message_was_sent() -> None:
    ledger = Ledger()
    inbox = ledger.inbox("receiver")
    subscription = inbox.ask("t/#")
    message = ledger.send(QOS1, 20)
    inbox.subscribed(subscription)
    ledger.accepted(message)
    assert not inbox.owed
    arrive(inbox, message)
    assert not ledger.findings, "but it may come"


def test_nothing_is_owed_to_who_was_leaving() -> None:
    ledger = Ledger()
    inbox = subscribed(ledger)
    message = ledger.send(QOS1, 20)
    inbox.leave(inbox.subscriptions[0])
    ledger.accepted(message)
    assert not inbox.owed


def test_a_message_that_was_sent_after_an_unsuback_must_not_come() -> None:
    ledger = Ledger()
    inbox = subscribed(ledger)
    before = ledger.send(QOS1, 20)
    inbox.left(inbox.subscriptions[0])
    arrive(inbox, before)
    assert not ledger.findings
    arrive(inbox, ledger.send(QOS1, 20))
    assert kinds(ledger) == [GHOST]


def test_a_repeat_on_another_connection_is_legal_until_something_later_was_promised() -> None:
    ledger = Ledger()
    inbox = subscribed(ledger)
    message = ledger.send(QOS1, 20)
    arrive(inbox, message, 1)
    arrive(inbox, message, 2)
    assert not ledger.findings
    assert ledger.counts["repeated"] == 1
    inbox.settled([message])
    arrive(inbox, message, 3)
    assert kinds(ledger) == [DOUBLED]


def test_a_repeat_on_the_same_connection_needs_a_publisher_that_has_repeated_it() -> None:
    ledger = Ledger()
    inbox = subscribed(ledger)
    message = ledger.send(QOS1, 20)
    message.transmissions = 2
    arrive(inbox, message)
    arrive(inbox, message)
    assert not ledger.findings
    arrive(inbox, message)
    assert kinds(ledger) == [DOUBLED]


def test_qos_2_comes_once_however_often_it_was_sent() -> None:
    for lenient in (False, True):
        ledger = Ledger(lenient=lenient)
        inbox = subscribed(ledger)
        message = ledger.send(QOS2, 20)
        message.transmissions = 2
        arrive(inbox, message, 1)
        arrive(inbox, message, 2)
        assert kinds(ledger) == [DOUBLED]


def test_other_brokers_may_send_a_copy_for_each_subscription() -> None:
    ledger = Ledger(lenient=True)
    inbox = subscribed(ledger)
    inbox.subscribed(inbox.ask("t/2"))
    message = ledger.send(QOS2, 20)
    arrive(inbox, message)
    arrive(inbox, message)
    assert not ledger.findings
    arrive(inbox, message)
    assert kinds(ledger) == [DOUBLED]


def test_first_arrivals_of_a_stream_keep_their_order_and_repeats_need_not() -> None:
    ledger = Ledger()
    inbox = subscribed(ledger)
    first, second, third = (ledger.send(QOS1, 20) for _ in range(3))
    arrive(inbox, first, 1)
    arrive(inbox, third, 1)
    arrive(inbox, first, 2)
    assert not ledger.findings
    arrive(inbox, second, 2)
    assert kinds(ledger) == [REORDERED]


def test_what_is_sent_again_may_come_late_to_who_had_not_subscribed_when_it_was_sent_first() -> None:
    for subscribes_first, expected in ((False, []), (True, [REORDERED])):
        ledger = Ledger()
        inbox = subscribed(ledger) if subscribes_first else ledger.inbox("receiver")
        first = ledger.send(QOS1, 20)
        if not subscribes_first:
            inbox.subscribed(inbox.ask("t/#"))
        arrive(inbox, ledger.send(QOS1, 20))
        first.transmissions += 1
        arrive(inbox, first, connection=2)
        assert kinds(ledger) == expected


def test_what_was_refused_must_not_come() -> None:
    ledger = Ledger()
    inbox = subscribed(ledger)
    message = ledger.send(QOS1, 20)
    ledger.refused(message)
    arrive(inbox, message)
    assert kinds(ledger) == [REFUSED]


def test_what_was_refused_when_it_was_sent_again_may_have_been_taken_before() -> None:
    ledger = Ledger()
    inbox = subscribed(ledger)
    message = ledger.send(QOS1, 20)
    message.transmissions = 2
    ledger.refused(message)
    arrive(inbox, message)
    assert not ledger.findings


def test_a_payload_that_was_never_sent_is_found() -> None:
    ledger = Ledger()
    inbox = subscribed(ledger)
    message = ledger.send(QOS1, 40)
    assert inbox.arrived(message.payload[:-1], "t/1", 1, once=False) is None
    assert inbox.arrived(message.payload, "t/other", 1, once=False) is None
    assert inbox.arrived(b"anything", "t/1", 1, once=False) is None
    assert kinds(ledger) == [DAMAGED] * 3


def test_a_session_that_was_forgotten_has_lost_what_it_was_owed() -> None:
    ledger = Ledger()
    inbox = subscribed(ledger)
    ledger.accepted(ledger.send(QOS1, 20))
    inbox.forgotten(list(inbox.subscriptions))
    assert kinds(ledger) == [LOST]
    ledger.accepted(ledger.send(QOS1, 20))
    assert not inbox.owed


def test_filters_match_as_the_standard_says() -> None:
    assert matches("#", "a/b")
    assert matches("a/#", "a")
    assert matches("a/+/c", "a/b/c")
    assert matches("+/+", "a/")
    assert not matches("a/+", "a")
    assert not matches("a/+", "a/b/c")
    assert not matches("a/b", "a")
