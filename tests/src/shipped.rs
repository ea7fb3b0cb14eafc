//! The files of this project as they are shipped, pointed at the lab's servers.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crate::server::Server;
use crate::xinetd::Services;
use crate::{janitor, program, user};

/// The path of a file in the repository.
#[must_use]
pub fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// The programs of this project, as the file `PROGRAMS` lists them.
#[must_use]
pub fn programs() -> Vec<&'static str> {
    include_str!("../../PROGRAMS").lines().collect()
}

/// The names of all programs that are installed: the checks, and what the Makefile names beside them.
#[must_use]
pub fn installed_programs() -> Vec<&'static str> {
    let helpers = include_str!("../../Makefile").lines().find_map(|line| line.strip_prefix("HELPERS  := "));
    programs().into_iter().chain(helpers.expect("the Makefile names the helpers").split(' ')).collect()
}

/// The services of `xinetd.d/FILE`, on the address of `server` and asking it over its socket.
///
/// Changed are only the names of this machine: address, account, paths, and the last two arguments. `galera-chk` is
/// switched on.
#[must_use]
pub fn services(file_name: &str, server: &Server) -> Services {
    let services = Services::read(file("xinetd.d").join(file_name));
    services.names().iter().fold(services, |services, name| switch_on(services, name, server))
}

/// One service of `xinetd.d/FILE` in the same way; the others of the file are off, as shipped.
#[must_use]
pub fn service(file_name: &str, name: &str, server: &Server) -> Services {
    switch_on(Services::read(file("xinetd.d").join(file_name)), name, server)
}

fn switch_on(services: Services, name: &str, server: &Server) -> Services {
    let account = &user::unprivileged().name;
    let installed = PathBuf::from(services.value(name, "server").expect("a program"));
    let program = installed.file_name().and_then(|name| name.to_str()).expect("the name of a program");
    let has_banner = services.value(name, "banner_fail").is_some();
    let services = services
        .set(name, "disable", "no")
        .set(name, "bind", server.ip())
        .set(name, "user", account)
        .set(name, "server", program::binary(program).display())
        .append(name, "server_args", &format!("--user={account} --socket={}", server.socket().display()))
        .set(name, "only_from", "127.0.0.0/8");
    if has_banner { services.set(name, "banner_fail", banner().display()) } else { services }
}

/// The banner where everybody may read it: a copy, made once, since another xinetd may be reading it now.
fn banner() -> &'static Path {
    static COPY: LazyLock<PathBuf> = LazyLock::new(|| {
        let copy = janitor::base().join("busy.http");
        fs::copy(file("xinetd.d/busy.http"), &copy).unwrap();
        copy
    });
    &COPY
}
