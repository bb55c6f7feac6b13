"""What a device's timeline says: for each code a plain sentence, and what to do about it.

Here belongs the one table of codes, and which code an event of the core has. Not here: keeping events (``timeline``).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from broker.reasons import DropReason, ReasonCode
from broker.stories import Event, EventKind, Farewell, Refused


class Words(NamedTuple):
    """A sentence, in which ``{text}``, ``{address}`` and ``{other}`` stand for an entry's, and what to do about it."""

    sentence: str
    remedy: str = ""


CHECK_CREDENTIALS = (
    "Use the user name and password of the device's last registration or rotation; rotate to get new ones."
)
UPGRADE_OR_FEWER = "Close what is not needed any more, or ask for a larger plan."
QUOTA_REMEDY = "Send less until the first of the next month, or ask for a larger plan."
SLOWER_OR_QOS = "Read faster, subscribe to less, or let the publisher send less."

WORDS: Final[dict[str, Words]] = {
    # ---- connections
    "connected": Words("The device connected."),
    "disconnected": Words("The device said good-bye and left."),
    "disconnected_with_will": Words("The device left and asked for its will to be published."),
    "connection_lost": Words(
        "The network connection ended without a good-bye.",
        "Look at the device's network and power; a will tells others at once.",
    ),
    "keep_alive_timeout": Words(
        "Nothing was heard from the device for one and a half times its keep alive.",
        "Look at the device's network, or let the client send its pings in time.",
    ),
    "taken_over": Words(
        "A new connection from {address} took over the session of client id {text}; the one from {other} was closed.",
        "If this goes on, two clients use one client id: give each its own.",
    ),
    "rate_exceeded": Words(
        "The connection was closed: for five seconds the device sent more messages than its plan allows.",
        "Send fewer messages a second, or put several readings into one.",
    ),
    "access_ended": Words(
        "The connection was closed: the password, certificate, device or account that let it in is not valid any more.",
        "See the entries around this one for what has changed.",
    ),
    "broker_stopped": Words("The broker was stopped.", "The device can come back when the broker runs again."),
    "broker_restarted": Words(
        "The broker ended without a warning, and the device did not come back.", "Look at the device's network."
    ),
    "protocol_error": Words(
        "The connection was closed: the device broke the rules of MQTT.",
        "Update the device's MQTT library, or report it.",
    ),
    "packet_too_large": Words(
        "The connection was closed: a packet was larger than is allowed.", "Send smaller messages."
    ),
    "receive_maximum_exceeded": Words(
        "The connection was closed: the device had more messages of QoS 1 and 2 under way than it was told.",
        "Let the client keep to the Receive Maximum of CONNACK.",
    ),
    "topic_invalid": Words(
        "The connection was closed: the device published to a name that no topic can have.",
        "Use a topic name without wildcards, as devices/{device_id}/telemetry.",
    ),
    "closed_not_authorized": Words(
        "The connection was closed: in MQTT 3.1.1 a publish to a forbidden topic can not be refused otherwise.",
        "Publish below devices/{device_id}/telemetry, events or status; MQTT 5 is told a reason instead.",
    ),
    "closed_quota": Words(
        "The connection was closed: in MQTT 3.1.1 a publish beyond a limit can not be refused otherwise.",
        "See the entries before this one for which limit it is; MQTT 5 is told a reason instead.",
    ),
    "broker_unavailable": Words(
        "The connection was closed: the broker could not serve it at that moment.", "Come back a little later."
    ),
    "closed_for_error": Words("The connection was closed for an error.", "See the broker's log for the reason code."),
    # ---- refusals
    "refused_wrong_password": Words("A login was refused: the password is wrong.", CHECK_CREDENTIALS),
    "refused_inactive": Words(
        "A login was refused: the device is inactive.", "Set its status to active to let it in again."
    ),
    "refused_suspended": Words("A login was refused: the account is suspended.", "Ask the operator of the platform."),
    "refused_certificate_needed": Words(
        "A login by password was refused: on this port the device has to show the certificate that it is bound to.",
        "Let the device present its certificate, or bind it to none.",
    ),
    "refused_certificate_login": Words(
        "A login was refused: the certificate is this device's, but the user name or password beside it is not.",
        "Connect with the certificate alone, or with the device's own user name and password.",
    ),
    "refused_elsewhere": Words("A login was refused: it may not come in by this listener.", "Connect with TLS."),
    "refused_will_topic": Words(
        "A connection was refused: its will is for a topic to which the device may not publish.",
        "Set the will to a topic below devices/{device_id}/telemetry, events or status.",
    ),
    "refused_will_too_large": Words(
        "A connection was refused: its will is larger than the plan allows.", "Make the will smaller."
    ),
    "refused_device_connections": Words(
        "A connection was refused: the device has as many connections as it may have.",
        "Connect once and keep the connection, with one client id.",
    ),
    "refused_account_connections": Words(
        "A connection was refused: the account has as many connections as its plan allows.", UPGRADE_OR_FEWER
    ),
    "refused_device_sessions": Words(
        "A connection was refused: the device has as many sessions as it may have.",
        "Use one client id, and clean start where nothing has to be kept.",
    ),
    "refused_account_sessions": Words(
        "A connection was refused: the account has as many sessions as it may have.", UPGRADE_OR_FEWER
    ),
    "refused_broker_sessions": Words(
        "A connection was refused: the broker has as many sessions as it may have.", "Ask the operator of the platform."
    ),
    "refused_disk": Words(
        "A connection was refused: its session can not be stored at the moment.",
        "Come back a little later, or connect without a session that is kept.",
    ),
    "refused_packet_size": Words(
        "A connection was refused: its answer does not fit into the Maximum Packet Size of the client.",
        "Let the client take larger packets.",
    ),
    # ---- limits
    "throttled": Words(
        "The device sent more messages a second than its plan allows; it was read more slowly.",
        "Send fewer messages a second: after five seconds of this the connection is closed.",
    ),
    "denied_publish": Words(
        "A message to {text} was refused: the device may not publish there.",
        "Publish below devices/{device_id}/telemetry, events or status.",
    ),
    "denied_subscribe": Words(
        "A subscription to {text} was refused: the device may not read all that it matches.",
        "Subscribe below devices/{device_id}/commands, config or firmware.",
    ),
    "quota_exceeded": Words(
        "A message was refused: the account has used up its messages or its bandwidth of this month.",
        "Wait for the first of the next month, or ask for a larger plan.",
    ),
    "warned_messages_80": Words(
        "With this device's messages the account came to 80 % of the messages that its plan allows in a month.",
        QUOTA_REMEDY,
    ),
    "warned_messages_100": Words(
        "With this device's messages the account has used up the messages that its plan allows in a month.",
        QUOTA_REMEDY,
    ),
    "warned_bandwidth_80": Words(
        "With this device's messages the account came to 80 % of the bandwidth that its plan allows in a month.",
        QUOTA_REMEDY,
    ),
    "warned_bandwidth_100": Words(
        "With this device's messages the account has used up the bandwidth that its plan allows in a month.",
        QUOTA_REMEDY,
    ),
    "warned_devices_80": Words(
        "With this device the account came to 80 % of the devices that its plan allows.", UPGRADE_OR_FEWER
    ),
    "warned_devices_100": Words(
        "With this device the account came to as many devices as its plan allows.", UPGRADE_OR_FEWER
    ),
    # ---- deliveries
    "dropped_outbox_full": Words("Messages for the device were dropped: it reads too slowly.", SLOWER_OR_QOS),
    "dropped_queue_full": Words(
        "Messages were dropped: the queue of a session is full.",
        "Connect more often, or let less be kept for the device.",
    ),
    "dropped_packet_too_large": Words(
        "Messages were dropped: they are larger than the receiver takes, or than the plan allows.",
        "Send smaller messages.",
    ),
    "dropped_message_expired": Words(
        "Messages for the device were dropped: they expired before it took them.",
        "Connect more often, or publish with a longer expiry.",
    ),
    "dropped_session_ended": Words(
        "Messages for the device were dropped: the session for which they waited has ended.",
        "Connect with a longer session expiry, and without clean start.",
    ),
    "dropped_not_authorized": Words(
        "Messages were dropped: the device has no right to their topic.", "See which topics the device may use."
    ),
    "dropped_client_away": Words(
        "Messages of QoS 0 were dropped: the device was away.",
        "Publish and subscribe with QoS 1 what has to wait for it.",
    ),
    "dropped_device_budget_full": Words(
        "Messages for the device were dropped: as much waits for it as may.", SLOWER_OR_QOS
    ),
    "dropped_account_budget_full": Words(
        "Messages for the device were dropped: as much waits for all of the account as may.", SLOWER_OR_QOS
    ),
    "dropped_broker_budget_full": Words(
        "Messages for the device were dropped: the broker has no room for more.", "Ask the operator of the platform."
    ),
    "dropped_quota_exceeded": Words(
        "Messages of QoS 0 were dropped: the account's month is used up, or the disk takes nothing.",
        "Wait for the first of the next month, or ask for a larger plan.",
    ),
    "dropped_retained_full": Words(
        "Messages to be retained were dropped: as many are retained as may be.", "Clear what is not needed any more."
    ),
    "dropped_no_member": Words(
        "Messages for a shared subscription were dropped: no member could take them.", SLOWER_OR_QOS
    ),
    "dropped_negative_ack": Words(
        "Messages were dropped: the device refused them.", "See the device's log for why it refuses."
    ),
    "dropped_lost": Words(
        "Messages for the device were lost: they could not be read from the disk.", "Tell the operator of the platform."
    ),
    # ---- changes
    "password_rotated": Words("The device got a new password."),
    "password_ended": Words("The password before the newest one lets in no more."),
    "activated": Words("The device was set active: it may connect."),
    "deactivated": Words(
        "The device was set inactive: it is cut and refused.", "Set its status to active to let it in."
    ),
    "certificate_bound": Words("The device was bound to a certificate."),
    "certificate_unbound": Words("The device is bound to no certificate any more."),
    # ---- registration at the first connect
    "registered_by_claim": Words("The device was registered at its first connect, by a claim token of its account."),
    "registered_by_authority": Words(
        "The device was registered at its first connect, by a certificate of an authority of its account."
    ),
    "refused_claim_taken": Words(
        "A registration was refused: there is a device with this id already, which has another login.",
        "Let each device have an id of its own; delete the device if it has lost its login.",
    ),
    "refused_claim_revoked": Words(
        "A registration was refused: the claim token was revoked.", "Give the devices a new token."
    ),
    "refused_claim_expired": Words(
        "A registration was refused: the claim token has expired.", "Give the devices a new token."
    ),
    "refused_claim_used_up": Words(
        "A registration was refused: the claim token has registered as many devices as it may.",
        "Make another token, and look whether all devices that it has registered are yours.",
    ),
    "refused_claim_id": Words(
        "A registration was refused: the user name does not end with an id that a device can have.",
        "Connect as TOKEN_ID.DEVICE_ID, with 3 to 64 letters, digits, dashes and underscores as the id.",
    ),
    "refused_claim_pattern": Words(
        "A registration was refused: the claim token is not for devices with such an id.",
        "Look at the token's pattern, and at the id of the device.",
    ),
    "refused_claim_password": Words(
        "A registration was refused: behind the token's secret and a dot there is no password that was drawn.",
        "Let the device draw 32 random bytes once, keep them, and send them as Base64 (URL-safe, without =).",
    ),
    "refused_claim_elsewhere": Words(
        "A registration was refused: the token's secret came without encryption.",
        "Connect with TLS, and make a new token.",
    ),
    "refused_claim_plan": Words(
        "A registration was refused: the account has as many devices as its plan allows.", UPGRADE_OR_FEWER
    ),
    "refused_claim_rate": Words(
        "A registration was refused: the account registers as many devices a second as it may.",
        "Let the device come again a few seconds later.",
    ),
    "refused_authority_bound": Words(
        "A login was refused: the certificate names this device, which is bound to another one.",
        "Bind the device to its new certificate, or to none.",
    ),
    "refused_authority_revoked": Words(
        "A login was refused: the authority that has issued the certificate was revoked.",
        "Give the device a certificate of another authority.",
    ),
    "refused_authority_id": Words(
        "A registration was refused: the certificate does not name one id that a device can have.",
        "Let its common name, or its one alternative name, be 3 to 64 letters, digits, dashes and underscores.",
    ),
    "refused_authority_pattern": Words(
        "A registration was refused: the authority is not for devices with such an id.",
        "Look at the authority's pattern, and at the name in the certificate.",
    ),
    "refused_authority_listener": Words(
        "A login was refused: the listener is for another account's certificates.",
        "Connect to your account's listener.",
    ),
    # ---- the timeline itself
    "events_lost": Words("More happened than could be kept: events are missing here."),
}

TOPIC_CODES = frozenset({"denied_publish", "denied_subscribe"})

_BY_FAREWELL: Final[dict[int, str]] = {
    Farewell.NORMAL: "disconnected",
    Farewell.LOST: "connection_lost",
    Farewell.WITH_WILL: "disconnected_with_will",
    ReasonCode.MALFORMED_PACKET: "protocol_error",
    ReasonCode.PROTOCOL_ERROR: "protocol_error",
    ReasonCode.NOT_AUTHORIZED: "closed_not_authorized",
    ReasonCode.SERVER_UNAVAILABLE: "broker_unavailable",
    ReasonCode.SERVER_SHUTTING_DOWN: "broker_stopped",
    ReasonCode.KEEP_ALIVE_TIMEOUT: "keep_alive_timeout",
    ReasonCode.SESSION_TAKEN_OVER: "taken_over",
    ReasonCode.TOPIC_FILTER_INVALID: "topic_invalid",
    ReasonCode.TOPIC_NAME_INVALID: "topic_invalid",
    ReasonCode.RECEIVE_MAXIMUM_EXCEEDED: "receive_maximum_exceeded",
    ReasonCode.TOPIC_ALIAS_INVALID: "protocol_error",
    ReasonCode.PACKET_TOO_LARGE: "packet_too_large",
    ReasonCode.MESSAGE_RATE_TOO_HIGH: "rate_exceeded",
    ReasonCode.QUOTA_EXCEEDED: "closed_quota",
    ReasonCode.ADMINISTRATIVE_ACTION: "access_ended",
}

_BY_REFUSAL = {
    Refused.FROM_ELSEWHERE: "refused_elsewhere",
    Refused.WILL_TOPIC: "refused_will_topic",
    Refused.WILL_SIZE: "refused_will_too_large",
    Refused.DEVICE_CONNECTIONS: "refused_device_connections",
    Refused.ACCOUNT_CONNECTIONS: "refused_account_connections",
    Refused.DEVICE_SESSIONS: "refused_device_sessions",
    Refused.ACCOUNT_SESSIONS: "refused_account_sessions",
    Refused.BROKER_SESSIONS: "refused_broker_sessions",
    Refused.DISK: "refused_disk",
    Refused.PACKET_SIZE: "refused_packet_size",
}

_BY_KIND = {
    EventKind.CONNECTED: "connected",
    EventKind.TAKEN_OVER: "taken_over",
    EventKind.THROTTLED: "throttled",
    EventKind.DENIED_PUBLISH: "denied_publish",
    EventKind.DENIED_SUBSCRIBE: "denied_subscribe",
    EventKind.QUOTA: "quota_exceeded",
}


def code_of(event: Event) -> str:
    """The code of an event of the core."""
    if event.kind == EventKind.DISCONNECTED:
        return _BY_FAREWELL.get(event.reason, "closed_for_error")
    if event.kind == EventKind.REFUSED:
        return _BY_REFUSAL[Refused(event.reason)]
    return _BY_KIND[event.kind]


def code_of_drop(reason: DropReason) -> str:
    """The code of deliveries that did not happen."""
    return f"dropped_{reason.name.lower()}"


def is_about_topic(code: str) -> bool:
    """Tell whether the text of an entry is a topic or a filter; else it is a client id."""
    return code in TOPIC_CODES


def sentence_of(code: str, text: str, address: str, other: str) -> str:
    """The sentence of an entry; of a code of another version of this broker, the code itself."""
    words = WORDS.get(code)
    if words is None:
        return code
    return words.sentence.format(text=text or "?", address=address or "this machine", other=other or "this machine")


def remedy_of(code: str) -> str:
    """What to do about it; empty where nothing is to be done."""
    words = WORDS.get(code)
    return "" if words is None else words.remedy
