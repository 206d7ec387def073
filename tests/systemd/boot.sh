#!/bin/sh
# Boots systemd where it can touch nothing of the machine but the network's loopback.
#     unshare --mount sh boot.sh enter NAME PREFIX PYTHON SITE PACKAGE UNITS
# NAME is the control group's; PREFIX the folder of a Python that is not below /usr, or empty, and
# PYTHON its path in the guest; SITE holds the libraries, PACKAGE is uploaderd's, UNITS its units'.
set -eu

case "$1" in
enter)
    # A control group of its own, which becomes the root of the guest's hierarchy.
    mount --make-rprivate /
    mount -t cgroup2 cgroup2 /mnt
    mkdir -p "/mnt/$2"
    echo $$ > "/mnt/$2/cgroup.procs"
    umount /mnt
    shift
    exec unshare --fork --pid --mount --uts --ipc --cgroup --kill-child sh "$0" boot "$@"
    ;;
leave)
    # Takes the empty control group away.
    mount --make-rprivate /
    mount -t cgroup2 cgroup2 /mnt
    find "/mnt/$2" -depth -type d -exec rmdir {} +
    exit
    ;;
esac

prefix=$3 python=$4 site=$5 package=$6 units=$7
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /opt

# The installation comes first: its parts may lie in what is covered below. It is what an
# administrator would have: a virtual environment below /opt that anybody may read.
home=/opt/uploaderd
inner="$home/lib/python${python##*python}/site-packages"
mkdir -p /opt/libraries /opt/python "$home/bin" "$inner"
mount --bind "$site" /opt/libraries
if [ -n "$prefix" ]; then mount --bind "$prefix" /opt/python; fi
cp -r "$package" "$inner/uploaderd"
cp -r "$units" "$inner/uploaderd/units"
echo /opt/libraries > "$inner/libraries.pth"
echo "home = ${python%/*}" > "$home/pyvenv.cfg"
ln -s "$python" "$home/bin/python"
printf '#!%s/bin/python\nfrom uploaderd.cli import main\nmain()\n' "$home" > "$home/bin/uploaderd"
chmod -R a+rX "$home"
chmod 755 "$home/bin/uploaderd"

for folder in etc var; do
    over="/opt/over/$folder"
    mkdir -p "$over/upper" "$over/work"
    mount -t overlay -o "lowerdir=/$folder,upperdir=$over/upper,workdir=$over/work" overlay \
        "/$folder"
done
chmod 700 /opt/over
# A Python that is bound there may look for its shared library where it came from.
if [ -n "$prefix" ]; then
    printf '/opt/python/lib\ninclude /etc/ld.so.conf.d/*.conf\n' > /etc/ld.so.conf
    ldconfig
fi
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=700 tmpfs /root
mount -t tmpfs -o mode=755 tmpfs /home

# A /dev of its own: journald leaves things there.
mount -t tmpfs -o mode=755 tmpfs /dev
for node in "null 3" "zero 5" "full 7" "random 8" "urandom 9"; do
    mknod -m 666 "/dev/${node% *}" c 1 "${node#* }"
done
mknod -m 666 /dev/tty c 5 0
mkdir /dev/pts
mount -t devpts -o newinstance,mode=620,ptmxmode=666 devpts /dev/pts
ln -s pts/ptmx /dev/ptmx
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
mkdir /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /dev/shm

# The kernel's switches are the machine's, not the guest's.
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount --bind /sys /sys
mount -o remount,bind,ro /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup

# What the machine runs, or would set up at a boot, is not what is tested.
rm -rf /etc/systemd/system/* /etc/systemd/user/* /etc/fstab /etc/uploaderd /var/lib/uploaderd \
    /var/spool/uploaderd
for unit in apparmor.service dbus.service dbus.socket e2scrub_reap.service \
    keyboard-setup.service kmod-static-nodes.service modprobe@.service networking.service \
    sys-fs-fuse-connections.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    dev-hugepages.mount dev-mqueue.mount sys-kernel-config.mount systemd-binfmt.service \
    systemd-journald-audit.socket systemd-logind.service systemd-modules-load.service \
    systemd-networkd.service systemd-random-seed.service systemd-remount-fs.service \
    systemd-resolved.service systemd-sysctl.service systemd-timesyncd.service \
    systemd-tmpfiles-clean.timer systemd-tmpfiles-setup.service systemd-udev-trigger.service \
    systemd-udevd.service systemd-update-utmp.service; do
    ln -s /dev/null "/etc/systemd/system/$unit"
done

# As a machine has it, and container managers leave it: what a service's helper mounts for it, such
# as its credentials, must come back to the manager.
mount --make-rshared /
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=uploaderd-test LANG=C.UTF-8 \
    /lib/systemd/systemd --system --unit=basic.target --log-target=journal --show-status=no
