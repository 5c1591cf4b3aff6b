#!/bin/busybox sh
# The first process of the virtual machine.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

die() {
    echo "vm: $*"
    poweroff -f
}

for driver in /drivers/*; do
    insmod "$driver" || die "the driver $driver does not go in"
done

# This machine's files, and above them what is written here.
mount -t virtiofs -o ro host /host || die "no virtiofs"
mount -t tmpfs -o size=60% changes /changes
mkdir /changes/files /changes/work
mount -t overlay -o lowerdir=/host,upperdir=/changes/files,workdir=/changes/work root /root ||
    die "no overlay"
mount -t proc proc /root/proc
mount -t sysfs sys /root/sys
mount --move /dev /root/dev
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /root/dev/pts
mount -t tmpfs shm /root/dev/shm
ln -s /proc/self/fd /root/dev/fd
ln -s fd/0 /root/dev/stdin
ln -s fd/1 /root/dev/stdout
ln -s fd/2 /root/dev/stderr
mount -t tmpfs run /root/run
# As systemd mounts them.
mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 /root/sys/fs/cgroup || die "no cgroup2"
mount -t bpf -o mode=700 bpf /root/sys/fs/bpf || die "no bpffs"
release=$(uname -r)
mkdir -p "/root/lib/modules/$release"
mount --bind "/host$(cat /modules)" "/root/lib/modules/$release"
# A disk of its own: direct I/O and overlays have no place above the other machine's files.
mkdir /root/run/disk
mount -t ext4 /root/dev/vda /root/run/disk || die "no disk"
chmod 1777 /root/run/disk
ip link set lo up
hostname mezzo-vm

# Names of ports come after their driver.
port() {
    tries=0
    while [ $tries -lt 500 ]; do
        for file in /sys/class/virtio-ports/*/name; do
            if [ "$(cat "$file")" = "$1" ]; then
                basename "$(dirname "$file")"
                return
            fi
        done
        tries=$((tries + 1))
        usleep 10000
    done
}
output=$(port output)
code=$(port code)
[ -n "$output" ] && [ -n "$code" ] || die "no ports"
cp /command /root/run/command
cat > /root/run/first <<END
cd / && bash /run/command </dev/null >/dev/$output 2>&1
echo \$? >/dev/$code
/bin/busybox poweroff -f
END
exec switch_root /root /bin/bash /run/first
