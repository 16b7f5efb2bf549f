"""Three-node clusters that can be loaded alike. `PEERS` knows them all by name."""

from benchmarks.peers.base import Peer
from benchmarks.peers.etcd import Etcd
from benchmarks.peers.pipe import Pipe
from benchmarks.peers.pysyncobj import PySyncObj
from benchmarks.peers.viewstamp import Viewstamp
from benchmarks.peers.zookeeper import ZooKeeper
from viewstamp.protocols.registry import PROTOCOL_NAMES

_OURS: list[Peer] = [Viewstamp(protocol) for protocol in PROTOCOL_NAMES]
_ALL: list[Peer] = [
    *_OURS,
    Etcd(),
    ZooKeeper(),
    PySyncObj("batched"),
    PySyncObj("unbatched"),
    Pipe(),
]
PEERS = {peer.name: peer for peer in _ALL}
