"""The certificates in use: one store for a whole broker, which takes changed files without a restart.

Here belong when files are read again, what happens to a set that cannot be used, and who is told. Not here: what is
wrong with a file (``material``), making certificates (``own``), and TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Literal

from broker.net.certificates.material import CertificateError, MaterialFiles, TlsMaterial, load
from broker.net.certificates.own import Authority, OwnCertificates
from broker.observability.alarms import Alarms

log = logging.getLogger(__name__)

LOOK_S = 1.0
PATIENCE_LOOKS = 5  # so long a certificate may wait for its key, and a file for the rest of it
LOOKS_PER_DOUBT = 60
LOOKS_PER_RENEWAL = 3600
REFUSED, EXPIRY = "certificate_refused", "certificate_expiry"

Signature = tuple[tuple[int, int, int] | None, ...]
OnChange = Callable[[str, TlsMaterial], None]
Outcome = Literal["taken", "refused"]


@dataclass(slots=True)
class _Watched:
    """One set of files, the listeners that use it, and how far its last change has been judged."""

    files: MaterialFiles
    names: list[str]
    seen: Signature
    judged: Signature
    failures: int = 0


@dataclass(slots=True)
class _Counts:
    reloads: dict[Outcome, int] = field(default_factory=lambda: {"taken": 0, "refused": 0})


class CertificateStore:
    """Material by the name of its listener; belongs to the thread of the broker's loop.

    ``files`` says where each listener's are; where ``own`` is given, its certificates are made first and renewed in
    time, and ``authority`` tells whom clients have to trust. Nothing is watched until ``start``. Raises
    ``CertificateError`` and ``OSError`` for what cannot be used: at the start there is nothing older to go on with.
    """

    def __init__(
        self,
        files: Mapping[str, MaterialFiles],
        alarms: Alarms,
        *,
        wall_s: Callable[[], int],
        own: OwnCertificates | None = None,
    ) -> None:
        self._alarms = alarms
        self._wall_s = wall_s
        self._own = own
        self._lock = asyncio.Lock()
        self._materials: dict[str, TlsMaterial] = {}
        self._watched: list[_Watched] = []
        self._callbacks: list[OnChange] = []
        self._refusals: dict[str, str] = {}
        self._counts = _Counts()
        self._tasks: set[asyncio.Task[object]] = set()
        self.authority = None if own is None else self._ready(own)
        self._load_all(files)
        self._tell_doubts()

    def _ready(self, own: OwnCertificates) -> Authority:
        """Make what is missing. What is there and cannot be renewed now will do until it can."""
        try:
            own.ensure(self._now())
        except (CertificateError, OSError) as error:
            if not own.files.certificate.exists():
                raise
            self._refuse("renewal", str(error))
        authority = own.authority()
        told = {"file": str(authority.file), "sha256": authority.fingerprint}
        log.info("the broker's own authority", extra={"fields": told})
        return authority

    def _load_all(self, files: Mapping[str, MaterialFiles]) -> None:
        names: dict[MaterialFiles, list[str]] = {}
        for name, one in files.items():
            names.setdefault(one, []).append(name)
        for one, of in names.items():
            signature = _signature(one)
            material = load(one)
            self._watched.append(_Watched(one, of, signature, signature))
            self._materials.update(dict.fromkeys(of, material))

    # ------------------------------------------------------------ who uses it

    def material(self, name: str) -> TlsMaterial:
        """Give what a listener uses now."""
        return self._materials[name]

    def on_change(self, callback: OnChange) -> None:
        """Tell a listener's name and new material from now on, after each change.

        A ``ValueError`` of the callback refuses the material for that listener: the old one stays in use.
        """
        self._callbacks.append(callback)

    def figures(self) -> dict[str, object]:
        """Tell when each listener's certificate ends, and how many changes were taken and refused."""
        ends = {name: material.not_after for name, material in self._materials.items()}
        return {"not_after": ends, "reloads": dict(self._counts.reloads)}

    # ------------------------------------------------------------ when files are read

    def start(self) -> None:
        """Look at the files every second, and for a due renewal every hour, from now on."""
        self._keep(self._watch())

    def reload_soon(self) -> None:
        """Begin to read everything again."""
        self._keep(self.reload())

    async def close(self) -> None:
        """Look no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _keep(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="certificates")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self) -> None:
        for looks in count(1):
            await asyncio.sleep(LOOK_S)
            if self._is_quiet() and looks % LOOKS_PER_DOUBT:
                continue
            try:
                await self.look()
                if looks % LOOKS_PER_RENEWAL == 0:
                    await self.renew()
            except Exception:
                log.exception("the certificates could not be looked at")

    def _is_quiet(self) -> bool:
        """Tell whether there is nothing to do: nearly always, and then next to nothing is done."""
        return all(one.judged == one.seen == _signature(one.files) for one in self._watched)

    async def look(self) -> None:
        """Take what has changed and come to rest since the look before; what does not fit yet is given time."""
        async with self._lock:
            for one in self._watched:
                signature = _signature(one.files)
                at_rest, one.seen = signature == one.seen, signature
                if at_rest and signature != one.judged:
                    await self._take(one, signature, PATIENCE_LOOKS)
            self._tell_doubts()

    async def reload(self) -> bool:
        """Read everything now, and refuse at once what cannot be used; tells whether all of it can."""
        await self.renew()
        async with self._lock:
            for one in self._watched:
                one.seen = _signature(one.files)
                await self._take(one, one.seen, 1)
            self._tell_doubts()
        return not self._refusals

    async def renew(self) -> None:
        """Let the broker's own certificate be made anew where it is due; the files are taken at the next look."""
        if self._own is None:
            return
        try:
            async with self._lock:  # two at once would write over each other
                await asyncio.to_thread(self._own.ensure, self._now())
        except (CertificateError, OSError) as error:
            self._refuse("renewal", str(error))
        else:
            self._no_more_refused("renewal")

    async def _take(self, one: _Watched, signature: Signature, patience: int) -> None:
        try:
            material = await asyncio.to_thread(load, one.files)  # an RSA key takes tens of milliseconds
        except CertificateError as error:
            one.failures += 1
            if one.failures >= patience:
                one.judged, one.failures = signature, 0
                self._refuse(", ".join(one.names), str(error))
            return
        one.judged, one.failures = signature, 0
        self._no_more_refused(", ".join(one.names))
        for name in one.names:
            self._exchange(name, material)

    def _exchange(self, name: str, material: TlsMaterial) -> None:
        if material == self._materials[name]:
            self._no_more_refused(name)
            return
        try:
            for callback in self._callbacks:
                callback(name, material)
        except ValueError as error:
            self._refuse(name, str(error))
            return
        self._no_more_refused(name)
        self._materials[name] = material
        self._counts.reloads["taken"] += 1
        facts = {"listener": name, "fingerprint": material.fingerprint, "names": ", ".join(material.names)}
        log.info("new certificate in use", extra={"fields": facts})

    # ------------------------------------------------------------ who is told

    def _refuse(self, whose: str, why: str) -> None:
        self._counts.reloads["refused"] += 1
        self._refusals[whose] = why
        log.error("a certificate was refused, the old one stays", extra={"fields": {"listener": whose, "reason": why}})
        self._tell_refusals()

    def _no_more_refused(self, whose: str) -> None:
        if self._refusals.pop(whose, None) is not None:
            self._tell_refusals()

    def _tell_refusals(self) -> None:
        reason = "; ".join(f"{whose}: {why}" for whose, why in sorted(self._refusals.items()))
        self._alarms.set(REFUSED, reason, ready=True)

    def _tell_doubts(self) -> None:
        now = self._now()
        doubts = [f"{name}: {doubt}" for name, one in self._materials.items() for doubt in one.doubts(now)]
        self._alarms.set(EXPIRY, "; ".join(doubts), ready=True)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall_s(), UTC)


def _signature(files: MaterialFiles) -> Signature:
    """Tell what changes when a file is written or replaced; None for one that is not there."""
    return tuple(_stamp(path) for path in files.paths())


def _stamp(path: Path) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_mtime_ns, found.st_ino, found.st_size
    return None
