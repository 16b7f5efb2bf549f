"""A protocol made of nothing: an image, an oracle and a core whose every answer a test sets."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from viewstamp.core.effects import Effect, Entry
from viewstamp.core.events import Event
from viewstamp.core.ids import ORIGIN, Incarnation, Instant, NodeId, PersistSeq, Seqno, View, Viewstamp
from viewstamp.core.judge import AgreedView, DurableImage, ensure
from viewstamp.core.protocol import Guarantees, Status
from viewstamp.core.snapshots import SnapshotMeta

RAFT_LIKE = Guarantees(
    commits_when="a majority has it",
    tolerates="minority",
    safe_under_partition=True,
    survives_full_restart=True,
    reads="linearizable",
    dynamic_membership=False,
)
MEMBERS = (NodeId(0), NodeId(1), NodeId(2))
VIEWS_AGREED = msgspec.structs.replace(RAFT_LIKE, agreed_views=True)


class FakeView(msgspec.Struct, frozen=True):
    """A view whose members are node numbers."""

    view: View
    members: tuple[NodeId, ...]
    leader: NodeId

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        return self.members


def stamp(view: int, seqno: int) -> Viewstamp:
    return Viewstamp(View(view), Seqno(seqno))


def entry(view: int, seqno: int, data: bytes = b"x") -> Entry:
    return Entry(stamp(view, seqno), data)


class FakeImage:
    """A disk that holds what the test puts on it."""

    def __init__(self) -> None:
        self.view = View(0)
        self.promises: dict[str, Any] = {}
        self.base = ORIGIN
        self.entries: dict[int, Entry] = {}
        self.agreed: set[AgreedView] = set()

    @property
    def last(self) -> Viewstamp:
        return self.entries[max(self.entries)].viewstamp if self.entries else self.base

    def write(self, seq: PersistSeq, records: Sequence[bytes]) -> None:
        """Nothing: tests put entries here themselves."""

    def snapshot(self, meta: SnapshotMeta) -> None:
        self.base = meta.viewstamp

    def holds(self, viewstamp: Viewstamp) -> bool:
        held = self.entries.get(viewstamp.seqno)
        return viewstamp.seqno <= self.base.seqno or (held is not None and held.viewstamp == viewstamp)

    def data(self, seqno: Seqno) -> bytes | None:
        held = self.entries.get(seqno)
        return None if held is None else held.data

    def put(self, *entries: Entry) -> None:
        for item in entries:
            self.entries[item.viewstamp.seqno] = item


class FakeOracle:
    """An oracle that says what the test wants to hear."""

    def __init__(self) -> None:
        self.broken: str | None = None
        self.committed = True
        self.orderly = True
        self.owing = True
        self.forgotten: list[NodeId] = []
        self.images: Mapping[NodeId, DurableImage] = {}

    def check_node(self, core: Any) -> None:
        ensure(self.orderly, "I9 Ordering", "applied > committed")

    def check_step(self, node: NodeId, core: Any) -> None:
        """Nothing of the fake goes back."""

    def forget(self, node: NodeId) -> None:
        self.forgotten.append(node)

    def make_image(self) -> FakeImage:
        return FakeImage()

    def broken_promise(self, source: NodeId, message: Any, durable: DurableImage) -> str | None:
        return self.broken

    def committed_by(self, viewstamp: Viewstamp, images: Mapping[NodeId, DurableImage]) -> bool:
        return self.committed and sum(image.holds(viewstamp) for image in images.values()) * 2 > len(images)

    def owes_progress(
        self, alive: Mapping[NodeId, Incarnation | None], images: Mapping[NodeId, DurableImage]
    ) -> bool:
        return self.owing

    def agreed(self, core: Any) -> Sequence[FakeView]:
        return core.history  # type: ignore[no-any-return]

    def synchronised(self, core: Any) -> View:
        return core.synchronised  # type: ignore[no-any-return]

    def opening(self, core: Any) -> Viewstamp | None:
        return core.opening  # type: ignore[no-any-return]

    def agrees(self, image: DurableImage, view: AgreedView) -> bool:
        assert isinstance(image, FakeImage)
        return view in image.agreed

    def describe(self, message: Any) -> str:
        return str(message)


class FakeCore:
    """A core whose next effects the test sets."""

    def __init__(self) -> None:
        self.deadline: Instant | None = None
        self.leader: NodeId | None = None
        self.view = View(1)
        self.accepting = False
        self.committed = 0
        self.effects: list[Effect] = []
        self.history: list[FakeView] = []
        self.synchronised = View(0)
        self.opening: Viewstamp | None = None

    def step(self, event: Event, now: Instant) -> Sequence[Effect]:
        effects, self.effects = self.effects, []
        return effects

    def status(self, now: Instant) -> Status:
        committed = self.committed
        return Status(NodeId(0), "fake", self.view, self.leader, ORIGIN, committed, committed, 0, 0, MEMBERS)
