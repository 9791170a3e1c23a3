# A second Debian inside this one: an overlay of the root file system, namespaces of its own, and
# systemd as its process 1. What is installed and started in it is gone with it.
# Usage: bash host.sh DIRECTORY
set -e
base=$1
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$base"
mkdir "$base"/{upper,work,root}
mount -t overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" overlay "$base/root"
cd "$base/root"
mount -t proc proc proc
# The kernel's own settings are those of the machine.
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount --rbind /dev dev
rm -rf etc/systemd/system/*.wants etc/hauld var/lib/hauld
for unit in systemd-udevd.service systemd-logind.service console-getty.service getty.target dbus.service; do
    ln -sf /dev/null "etc/systemd/system/$unit"
done
mkdir -p outside
pivot_root . outside
umount -l outside
rmdir outside
# As a machine has it at the start: systemd hands credentials over through it.
mount --make-rshared /
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=test \
    /lib/systemd/systemd --unit=multi-user.target --show-status=0 < /dev/null
