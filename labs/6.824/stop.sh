#!/bin/bash
# Ends what start.sh started in this directory: the mounts first, then the servers.
for name in yfs1 yfs2; do
  if mount | grep -q "$PWD/$name "; then
    { fusermount -u "$PWD/$name" || fusermount3 -u "$PWD/$name" || umount "$PWD/$name"; } 2> /dev/null
  fi
done
for program in yfs_client extent_server lock_server; do
  for process in $(pgrep -x "$program"); do
    [ "$(readlink "/proc/$process/cwd")" = "$PWD" ] && kill "$process"
  done
done
exit 0
