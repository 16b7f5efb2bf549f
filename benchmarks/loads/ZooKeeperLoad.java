// Load for ZooKeeper: clients share sessions of one process, at most 16, by the asynchronous
// interface.
//
// Usage: java ZooKeeperLoad HOST:PORT   Reads a plan a line (workload clients value_bytes warm_s seconds
// connections), answers with a line of JSON; the same protocol as benchmarks/loads/lines.py.
//
// A read is a sync and a read behind it in the same session, for a read alone may return an old value.

import java.util.Arrays;
import java.util.Scanner;
import java.util.concurrent.CountDownLatch;
import java.util.stream.LongStream;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;

public final class ZooKeeperLoad {
    static final int CONNECTIONS_MAX = 16;
    static final int KEYS = 1000;
    static final int STRIDE = 7919;
    static final int MIXED_WRITE_EVERY = 10;

    /** What one load is, and what is common to its clients. */
    static final class Plan {
        final String workload;
        final int clients;
        final byte[] value;
        final long counted;
        final long end;
        final int connections;
        final CountDownLatch running;

        Plan(String[] words) {
            workload = words[0];
            clients = Integer.parseInt(words[1]);
            value = new byte[Integer.parseInt(words[2])];
            counted = System.nanoTime() + (long) (Double.parseDouble(words[3]) * 1e9);
            end = counted + (long) (Double.parseDouble(words[4]) * 1e9);
            connections = Integer.parseInt(words[5]);
            running = new CountDownLatch(clients);
        }

        boolean writesAt(long place) {
            return workload.equals("writes") || (workload.equals("mixed") && place % MIXED_WRITE_EVERY == 0);
        }
    }

    /** A client with one operation under way. All its steps run in the event thread of its session. */
    static final class Client {
        final Plan plan;
        final ZooKeeper session;
        long place;
        long began;
        long[] latencies = new long[1024];
        int count;

        Client(Plan plan, ZooKeeper session, int number) {
            this.plan = plan;
            this.session = session;
            this.place = (long) number * STRIDE;
        }

        void next() {
            began = System.nanoTime();
            if (began >= plan.end) {
                plan.running.countDown();
                return;
            }
            String key = "/key" + place % KEYS;
            if (plan.writesAt(place++)) {
                session.setData(key, plan.value, -1, (code, path, context, stat) -> done(code), null);
            } else {
                session.sync(key, (code, path, context) -> check(code), null);
                session.getData(key, false, (code, path, context, data, stat) -> done(code), null);
            }
        }

        void done(int code) {
            check(code);
            if (began >= plan.counted) {
                if (count == latencies.length) {
                    latencies = Arrays.copyOf(latencies, 2 * count);
                }
                latencies[count++] = System.nanoTime() - began;
            }
            next();
        }
    }

    static void check(int code) {
        if (code != Code.OK.intValue()) {
            System.err.println("an operation failed: " + Code.get(code));
            Runtime.getRuntime().halt(1);
        }
    }

    static ZooKeeper connect(String host) throws Exception {
        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeper session = new ZooKeeper(host, 30000, event -> {
            if (event.getState() == KeeperState.SyncConnected) {
                connected.countDown();
            }
        });
        connected.await();
        return session;
    }

    static String run(Plan plan, ZooKeeper[] sessions) throws InterruptedException {
        Client[] clients = new Client[plan.clients];
        for (int number = 0; number < clients.length; number++) {
            clients[number] = new Client(plan, sessions[number % plan.connections], number);
        }
        for (Client client : clients) {
            client.next();
        }
        plan.running.await();
        double elapsed = (System.nanoTime() - plan.counted) / 1e9;
        long[] all = Arrays.stream(clients)
            .flatMapToLong(client -> LongStream.of(Arrays.copyOf(client.latencies, client.count)))
            .sorted().toArray();
        int operations = all.length;
        if (operations == 0) { // a latency is at least the time that there was
            all = new long[] {(long) (elapsed * 1e9)};
        }
        return String.format(
            "{\"operations\": %d, \"per_second\": %.1f, \"latency_us\": "
                + "{\"p50\": %d, \"p90\": %d, \"p99\": %d, \"p999\": %d, \"max\": %d}}",
            operations, operations / elapsed,
            at(all, .5), at(all, .9), at(all, .99), at(all, .999), at(all, 1));
    }

    static long at(long[] ordered, double share) {
        return ordered[Math.min(ordered.length - 1, (int) (share * ordered.length))] / 1000;
    }

    public static void main(String[] arguments) throws Exception {
        ZooKeeper[] sessions = new ZooKeeper[CONNECTIONS_MAX];
        for (int number = 0; number < sessions.length; number++) {
            sessions[number] = connect(arguments[0]);
        }
        for (int number = 0; number < KEYS; number++) {
            try {
                sessions[0].create(
                    "/key" + number, new byte[0], ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            } catch (KeeperException.NodeExistsException known) {
                continue;
            }
        }
        Scanner input = new Scanner(System.in);
        while (input.hasNextLine()) {
            System.out.println(run(new Plan(input.nextLine().trim().split(" ")), sessions));
        }
        System.exit(0);
    }
}
