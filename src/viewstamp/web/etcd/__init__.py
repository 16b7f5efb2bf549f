"""The JSON gateway of etcd's v3 API, on top of the coordination store: Patroni, etcd3gw and tooz run on it.

The paths, names, numbers and texts are those of etcd 3.4; what differs stands in docs/reference/etcd.md. The
app has a port of its own, as etcd's clients expect. Read in this order:

1. `messages`: what clients send, and how JSON becomes it;
2. `answers`: what they get;
3. `refusals`: each error as etcd says it;
4. `keys`: ranges, writes and transactions, translated to those of the store and back;
5. `callers`: on whose behalf a request is made, and the client of the cluster that makes it;
6. `kv`, `leases`, `watches`, `cluster`: one file for each of etcd's services;
7. `gateway`: the paths, the bounds of a body, and what an error becomes.

Source: etcd 3.4, `etcdserverpb/rpc.proto`, `etcdserver/api/v3rpc/rpctypes/error.go`; grpc-gateway 1.9.
"""
