"""The real world: sockets, disks, clocks and processes around the sans-I/O cores.

Read in this order; each file says its rules at its top:

1. `driver`: the four rules by which one replica runs, and `turns`, what happens once a round of the loop;
2. `syncing`, `snapshotting`: where the disk's work is done; `state_hashing`, `differences`,
   `watchdog`: what finds a class that differs or runs too long; `disk_hang`, `space`: a disk that does not
   answer, or is full;
3. `transport`, `listening`, `inbox`, `connection`, `dialing`: the port of a server, over `viewstamp.link`;
   `places`, `deadlines`, `backlog`, `bounded_log`: what one client may take of it; `admissions`,
   `security`, `secret_file`, `certificates`, `tls`, `rotation`, `tokens`, `policy`: with what the ends of a
   connection prove themselves, and what they may do;
4. `server`: all of it from start to stop, `watching` what looks after it, `process` what it takes of the
   process that it runs in, `forks` what a child of it may not use; `local`: a cluster in one process;
   `paranoid`: cores that check
   themselves; `disturbed`, `chaos_orders`: a network that loses and delays, for tests, and what begins it;
   `stopping`: what comes before the end; `supervisor`: what systemd is told;
5. `client_base`, `client`, `blocking`, `sockets`: the two clients; `connecting`, `proxies`: what
   users of the library call;
6. `address_book`, `member_watch`, `joining`, `removal`, `moves`, `members`: members that change while the
   cluster runs, on the side of the node and of the operator; `last_heard`: since when something may be
   missing, should a majority be lost;
7. `config`, `addresses`, `discovery`, `system`, `metrics`, `operator`,
   `cluster_health`, `log_reading`: what the others need.

The way of a write, from a call to its result:

- the call: `proxies.make_proxy`, `client.AsyncClient.invoke`, `client.AsyncClient._work`,
  `connection.Connection.send`, `connection.Connection.flush`;
- the server reads it: `connection.Connection.data_received`, `driver.Driver.client_frame`,
  `driver.Driver._step`;
- the turn that proposes it, writes to the followers, and syncs: `turns.Turns._run`, `driver.Driver._work`,
  `transport.Transport.send`, `syncing.Syncer.sync`;
- a follower stores it and answers after its own sync: `driver.Driver.peer_frame`, `driver.Driver._sync`;
- the leader answers the client: `driver.Driver._respond`, `transport.Transport.respond`,
  `transport.Transport.flush`;
- the result: `client.AsyncClient.link_received`, `client.AsyncClient._complete`, `client_base.result_of`.
"""
