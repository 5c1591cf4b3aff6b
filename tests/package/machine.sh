#!/bin/sh
# A machine inside this one: its own namespaces and control groups, this machine's files below a layer of its
# own, and systemd as its first process. Nothing that happens in it reaches the outside; what it is made
# of goes with its first process, but for the empty control groups.
#
#   machine.sh GROUP DIRECTORY
#
# GROUP: name of its control groups; DIRECTORY: an empty one, for its file systems.
set -eu
group=$1 directory=$2

# Outside: take along the list of hierarchies, enter a group in each.
if [ "${3-}" != inside ]; then
    awk '$3 == "cgroup" || $3 == "cgroup2" { print $3, $2, $4 }' /proc/self/mounts |
        sort -u -k 2,2 >"$directory/hierarchies"
    while read -r _ mountpoint _; do
        mkdir -p "$mountpoint/$group"
        for file in cpuset.cpus cpuset.mems; do
            # v1 wants them set before a process enters.
            if [ -e "$mountpoint/$group/$file" ] && [ -e "$mountpoint/cpuset.memory_migrate" ]; then
                cat "$mountpoint/$file" >"$mountpoint/$group/$file"
            fi
        done
        echo $$ >"$mountpoint/$group/cgroup.procs"
    done <"$directory/hierarchies"
    exec unshare --mount --pid --fork --kill-child --cgroup --ipc --uts --net \
        sh "$0" "$group" "$directory" inside
fi

# Inside: file systems.
mount --make-rprivate /
cp "$directory/hierarchies" /dev/shm/.hierarchies-"$group"
mount -t tmpfs -o mode=755 tmpfs "$directory"
mv /dev/shm/.hierarchies-"$group" "$directory/hierarchies"
mkdir "$directory/upper" "$directory/work" "$directory/root"
root=$directory/root
mount -t overlay -o "lowerdir=/,upperdir=$directory/upper,workdir=$directory/work" overlay "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
while read -r type mountpoint options; do
    if [ "$mountpoint" != /sys/fs/cgroup ] && ! mountpoint -q "$root/sys/fs/cgroup"; then
        mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
    fi
    mkdir -p "$root$mountpoint"
    if [ "$type" = cgroup2 ]; then
        mount -t cgroup2 cgroup2 "$root$mountpoint"
    else
        # Of the options only the controllers and the name choose the hierarchy.
        chosen=$(echo "$options" | tr , '\n' | grep -vxE 'rw|relatime|nosuid|nodev|noexec' | paste -sd,)
        mount -t cgroup -o "$chosen" cgroup "$root$mountpoint"
    fi
done <"$directory/hierarchies"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for stream in 0:stdin 1:stdout 2:stderr; do
    ln -s "/proc/self/fd/${stream%%:*}" "$root/dev/${stream#*:}"
done
ip link set lo up

# Only what a target needs: this machine's own services are nobody's business here.
rm -rf "$root/etc/systemd/system" "$root/etc/fstab"
mkdir "$root/etc/systemd/system"
cat >"$root/etc/systemd/system/bare.target" <<'UNIT'
[Unit]
Requires=basic.target
After=basic.target
AllowIsolate=yes
UNIT
# What a container has no use for, or no right to.
for unit in dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    systemd-journal-flush.service systemd-modules-load.service systemd-pstore.service \
    systemd-remount-fs.service systemd-sysctl.service systemd-timesyncd.service \
    systemd-udev-trigger.service systemd-udevd.service systemd-udevd-control.socket \
    systemd-udevd-kernel.socket; do
    ln -s /dev/null "$root/etc/systemd/system/$unit"
done
# With an id of its own this is no first boot, on which systemd would enable what it likes.
echo 6d657a7a6f2d7061636b6167652d7465 >"$root/etc/machine-id"

cd "$root"
mkdir -p mnt
pivot_root . mnt
umount -l /mnt
exec env -i container=mezzo-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=bare.target --show-status=no
