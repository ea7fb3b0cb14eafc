//! A copy of this host that is thrown away: what a script does to it as root, the host does not see.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::daemon::{Daemon, program};
use crate::scratch::Scratch;
use crate::{janitor, roots, wait};

const BOUND: Duration = Duration::from_secs(600);
const MOUNT: &str = "set -e; cd \"$1\"; mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work merged\n";

/// Runs a script in a copy of this host, and returns what it printed. It ends at the first command that fails. `/shared` is the
/// directory `shared` of `scratch`, and what is in `upper` stands before what the host has; both outlive the script. The directories
/// of the servers of this run are those of the host.
#[must_use]
#[track_caller]
pub fn chroot(scratch: &Scratch, script: &str) -> String {
    // Its processes see no others, and end with it.
    let how = "mount --bind \"$1/shared\" merged/shared; mount --bind /dev merged/dev; mount -t tmpfs none merged/run
        mkdir -p \"merged$2\"; mount --bind \"$2\" \"merged$2\"
        exec unshare --pid --fork --kill-child sh -c 'mount -t proc proc merged/proc; exec chroot merged /usr/local/bin/script'";
    run(scratch, script, how, &[janitor::base()])
}

/// The same by a systemd that has booted there, with a network of its own.
#[must_use]
#[track_caller]
pub fn boot(scratch: &Scratch, script: &str) -> String {
    let units = scratch.join("upper/etc/systemd/system");
    fs::create_dir_all(&units).unwrap();
    fs::write(scratch.join("upper/etc/machine-id"), "").unwrap();
    let target = "[Unit]\nRequires=basic.target script.service\nAfter=basic.target\nAllowIsolate=yes\n";
    fs::write(units.join("script.target"), target).unwrap();
    let service = "[Unit]\nAfter=basic.target\n[Service]\nType=oneshot\nExecStart=/usr/local/bin/script\n\
        ExecStopPost=/bin/systemctl --no-block exit 0\n";
    fs::write(units.join("script.service"), service).unwrap();
    let how = "exec \"$2\" -q -D merged --private-network --register=no --keep-unit --console=pipe \
        --bind=\"$1/shared:/shared\" -b systemd.unit=script.target";
    run(scratch, script, how, &[&roots::bookworm().join("usr/bin/systemd-nspawn")])
}

fn run(scratch: &Scratch, script: &str, how: &str, arguments: &[&Path]) -> String {
    for directory in ["upper/usr/local/bin", "upper/shared", "work", "merged", "shared"] {
        fs::create_dir_all(scratch.join(directory)).unwrap();
    }
    let script = format!("#!/bin/sh\nexec >/shared/report 2>&1\nset -eu\n{script}\n");
    scratch.program("upper/usr/local/bin/script", script);
    let mut command = Command::new(program("unshare"));
    command.args(["--mount", "sh", "-c", &format!("{MOUNT}{how}"), "sh"]).arg(scratch.path()).args(arguments);
    let mut daemon = Daemon::start(command.stdin(Stdio::null()), &scratch.join("log"));
    wait::until("the script has ended", BOUND, || !daemon.is_running());
    fs::read_to_string(scratch.join("shared/report")).unwrap_or_else(|_| panic!("{}", daemon.log()))
}
