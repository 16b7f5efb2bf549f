"""The counter of the tutorial; `viewstamp serve counter:Counter --node 1 --data data1` here serves it."""

import viewstamp


class Counter(viewstamp.StateMachine):
    """A number that several machines agree on."""

    value: int = 0

    @viewstamp.command
    def add(self, amount: int) -> int:
        """Add to the number and return it."""
        self.value += amount
        return self.value

    @viewstamp.query
    def read(self) -> int:
        """Return the number."""
        return self.value


def main() -> None:
    with viewstamp.local_cluster(Counter, replicas=3) as cluster, cluster.connect() as counter:
        print("3 more:", counter.add(3))
        print("the leader dies")
        cluster.kill(cluster.leader())
        print("4 more:", counter.add(4))


if __name__ == "__main__":
    main()
