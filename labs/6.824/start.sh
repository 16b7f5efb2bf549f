#!/bin/bash
# start.sh [LOSSY [NUM_LS]]: an extent server, one or NUM_LS lock servers, and two mounts, yfs1 and yfs2, here.
here=$(dirname -- "$(readlink -f -- "$0")")
ulimit -c unlimited
lossy=${1:-0}
num_ls=${2:-0}
base=${BASE:-$((RANDOM + 2000))}
extent_port=$base
lock_port=$((base + 6))

if [ "$num_ls" -gt 1 ]; then
  : > config
  for ((k = 0; k < num_ls; k++)); do
    port=$((lock_port + 2 * k))
    echo "$port" >> config
    RPC_LOSSY=$lossy "$here/lock_server" "$lock_port" "$port" > "lock_server-$lock_port-$port.log" 2>&1 &
    sleep 1
  done
else
  RPC_LOSSY=$lossy "$here/lock_server" "$lock_port" > lock_server.log 2>&1 &
fi
"$here/extent_server" "$extent_port" > extent_server.log 2>&1 &
sleep 1
for name in yfs1 yfs2; do
  mkdir -p "$name"
  "$here/yfs_client" "$PWD/$name" "$extent_port" "$lock_port" > "$name.log" 2>&1 &
  sleep 1
done
for _ in $(seq 20); do
  [ "$(mount | grep -c "$PWD/yfs[12] ")" -ge 2 ] && break
  sleep 0.5
done
for name in yfs1 yfs2; do
  if [ "$(mount | grep -c "$PWD/$name ")" -ne 1 ]; then
    echo "$PWD/$name is not mounted once: see $name.log" >&2
    "$here/stop.sh"
    exit 1
  fi
done
