#!/bin/bash
# Makes systemd the first process of a host of its own: a copy-on-write view of this machine's files, its own processes, cgroups
# and network. Nothing of this machine is changed, and all of it goes with the first process. To be run as
#   unshare --pid --mount --cgroup --uts --ipc --net --fork --kill-child=KILL --propagation private systemd-host.sh FOLDER FILE...
# FILEs are copied to its /root.
set -euo pipefail
folder=$1
shift

mount -t tmpfs tmpfs "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"
cd "$folder/root"
cp "$@" root/

mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs -o mode=755 dev dev
for device in null zero full random urandom tty; do touch dev/$device; mount --bind /dev/$device dev/$device; done
mkdir dev/pts dev/shm dev/mqueue dev/hugepages
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ip link set lo up

# none of this machine's own services
rm -rf etc/systemd/system
mkdir etc/systemd/system
for unit in systemd-networkd systemd-udevd systemd-resolved systemd-timesyncd systemd-logind systemd-firstboot console-getty glusterd; do ln -s /dev/null etc/systemd/system/$unit.service; done
: > etc/fstab
echo uninitialized > etc/machine-id

mkdir old
pivot_root . old
umount -l /old
exec env -i container=unshare PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin /usr/lib/systemd/systemd --system --unit=multi-user.target --show-status=false
