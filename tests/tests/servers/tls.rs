//! TLS with real servers: what each mode asks of the server's certificate, and what is said when it cannot be had.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use lab::scratch::Scratch;
use lab::server::{PASSWORD, Server};
use lab::software::Software;
use lab::{user, wait};

use crate::table::{DENIED, Table, Transport, UP};

const FOREIGN: &str = "down: cannot log in: no CA in `ssl-ca` signed the server's certificate";
const EXPIRED: &str = "down: cannot log in: the server's certificate has expired";
const BROKEN: &str = "down: cannot log in: a certificate in `ssl-ca` or `ssl-cert` cannot be read";
const UNVERIFIABLE: &str = "down: the server's certificate cannot be verified without a CA: write `ssl-ca=FILE`";
const ANOTHER_HOST: &str = "down: cannot log in: the server's certificate is for another host";

/// Two authorities, and what they sign.
struct Keys(Scratch);

impl Keys {
    fn new() -> Self {
        let keys = Self(Scratch::new("tls"));
        for name in ["ca", "other-ca"] {
            let files = format!("-keyout {name}.key -out {name}.pem");
            keys.openssl(&format!("req -x509 {EC} -days 30 -subj /CN={name} {files}"));
        }
        keys
    }

    /// Makes `NAME.pem` and `NAME.key`, signed by this authority for this host.
    fn sign(&self, name: &str, authority: &str, host: &str) {
        self.request(name, host);
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial -days 30 \
             -extfile names -out {name}.pem"
        ));
    }

    /// The same, valid for a few seconds more: `MySQL` loads none that has expired.
    fn sign_for(&self, life: Duration, name: &str, host: &str) -> Instant {
        self.request(name, host);
        let ca = "[ca]\ndefault_ca=own\n[own]\ndatabase=index\nrand_serial=yes\nnew_certs_dir=.\ndefault_md=sha256\n\
                  policy=any\n[any]\ncommonName=supplied\n";
        self.0.file("ca.conf", ca);
        self.0.file("index", "");
        let mut date = Command::new("date");
        let end = date.args(["-u", "-d", &format!("{} seconds", life.as_secs()), "+%y%m%d%H%M%SZ"]).output().unwrap();
        // A date has no fractions, and its last second is still valid.
        let expired = Instant::now() + life + Duration::from_secs(1);
        let end = String::from_utf8(end.stdout).unwrap();
        self.openssl(&format!(
            "ca -batch -notext -config ca.conf -cert ca.pem -keyfile ca.key -startdate 200101000000Z -enddate {end} \
             -extfile names -in {name}.csr -out {name}.pem"
        ));
        expired
    }

    fn request(&self, name: &str, host: &str) {
        let names = if host.is_empty() { "basicConstraints=CA:FALSE".into() } else { format!("subjectAltName={host}") };
        self.0.file("names", names);
        self.openssl(&format!("req {EC} -subj /CN=localhost -keyout {name}.key -out {name}.csr"));
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace()).current_dir(self.0.path());
        let done = user::drop_to_unprivileged(&mut command).output().unwrap();
        assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Gives the server this certificate from now on.
    fn put(&self, server: &Server, name: &str) {
        self.copy(name);
        let mysql = server.software().is_mysql();
        server.sql(if mysql { "ALTER INSTANCE RELOAD TLS" } else { "FLUSH SSL" });
    }

    fn copy(&self, name: &str) {
        for kind in ["pem", "key"] {
            let text = fs::read(self.0.join(&format!("{name}.{kind}"))).unwrap();
            self.0.file(&format!("server.{kind}"), text);
        }
    }
}

const EC: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
/// An account that gets in over TLS alone.
const TLS: &str = "--host=ADDRESS --defaults-file=DIR/right.cnf --user=tls";
/// One that gets in anyhow.
const ANY: &str = "--host=ADDRESS --defaults-file=DIR/right.cnf --user=mysqlchk_tcp";

fn every_mode_on(software: Software) {
    let keys = Keys::new();
    keys.sign("elsewhere", "ca", "DNS:elsewhere,IP:192.0.2.1");
    keys.copy("elsewhere");
    let dir = keys.0.path().display();
    let files =
        [format!("ssl_ca={dir}/ca.pem"), format!("ssl_cert={dir}/server.pem"), format!("ssl_key={dir}/server.key")];
    let server = Server::start_of(software, &files.each_ref().map(String::as_str));
    let here = format!("DNS:db01,IP:{}", server.ip());
    keys.sign("here", "ca", &here);
    keys.sign("nameless", "ca", "");
    keys.sign("client", "ca", "");
    keys.sign("foreign-client", "other-ca", "");
    for (name, requires) in [("tls", "SSL"), ("x509", "X509")] {
        server.sql(&format!("CREATE USER {name}@'%' IDENTIFIED BY '{PASSWORD}' REQUIRE {requires}"));
    }
    let mut table = Table::new("TLS", &server, &keys.0);
    let expired = keys.sign_for(Duration::from_secs(4), "old", &here);
    keys.put(&server, "old");
    // Nothing of this looks at the server's certificate.
    client_certificates(&mut table);
    files_of_ours(&mut table, &keys);
    wait::until("the certificate has expired", Duration::from_secs(30), || Instant::now() >= expired);
    verified(&mut table, "expired certificate", EXPIRED, EXPIRED);
    modes(&mut table, &server, &keys);
    names(&mut table, &server);
    words_of_mariadb(&mut table, &keys);

    server.sql("SET GLOBAL require_secure_transport = ON");
    // 10.11 has no number of its own for it.
    let refused = match software {
        Software::MariaDb => DENIED,
        _ => "down: cannot log in: the server requires TLS, set `ssl-mode` (3159)",
    };
    table.row("require_secure_transport", ANY, refused);
    table.up("require_secure_transport", &format!("{ANY} --ssl-mode=PREFERRED"), &Transport::Encrypted);
    let socket = ANY.replace("--host=ADDRESS", "--socket=SOCKET");
    table.up("require_secure_transport, over the socket", &socket, &Transport::Socket);
    table.close();
}

/// What the modes that verify say of the certificate that the server has now. All others are content.
fn verified(table: &mut Table, situation: &str, by_ca: &str, by_identity: &str) {
    for (mode, verdict) in [("REQUIRED", UP), ("VERIFY_CA", by_ca), ("VERIFY_IDENTITY", by_identity)] {
        table.row(situation, &format!("{TLS} --ssl-mode={mode} --ssl-ca=DIR/ca.pem"), verdict);
    }
}

fn modes(table: &mut Table, server: &Server, keys: &Keys) {
    for (name, situation, by_ca, by_identity) in [
        ("elsewhere", "certificate for another host", UP, ANOTHER_HOST),
        ("nameless", "certificate without a host name", UP, ANOTHER_HOST),
    ] {
        keys.put(server, name);
        verified(table, situation, by_ca, by_identity);
    }
    keys.put(server, "here");
    // MySQL loads none of an authority that is not its own, so it is ours that is another one. What fails to verify is
    // not tried in clear.
    for tls in ["--ssl-ca=", "--ssl-mode=VERIFY_CA --ssl-ca=", "--ssl-mode=VERIFY_IDENTITY --ssl-ca="] {
        table.row("certificate of another authority", &format!("{ANY} {tls}DIR/other-ca.pem"), FOREIGN);
    }
    table.row("account with REQUIRE SSL", TLS, DENIED);
    table.row("account with REQUIRE SSL", &format!("{TLS} --ssl-mode=DISABLED"), DENIED);
    for tls in [
        "--ssl-mode=PREFERRED",
        "--ssl-mode=REQUIRED",
        "--ssl-ca=DIR/ca.pem",
        "--ssl-mode=VERIFY_CA --ssl-ca=DIR/ca.pem",
        "--ssl-mode=VERIFY_IDENTITY --ssl-ca=DIR/ca.pem",
    ] {
        let before = server.counter("Connections");
        table.up("certificate for the host", &format!("{TLS} {tls}"), &Transport::Encrypted);
        // One of the check, and the one that counts.
        assert_eq!(server.counter("Connections"), before + 2, "{tls}");
    }
    table.up("TLS not asked for", ANY, &Transport::Plain);
    let socket = format!("{} --ssl-mode=REQUIRED", ANY.replace("--host=ADDRESS", "--socket=SOCKET"));
    table.up("the socket is never encrypted", &socket, &Transport::Socket);
}

/// A name is looked up in the `/etc/hosts` of this check alone.
fn names(table: &mut Table, server: &Server) {
    let hosts = format!("127.0.0.1 localhost\n::1 db01\n{ip} db01\n{ip} db02\n", ip = server.ip());
    let options = |name: &str| TLS.replace("ADDRESS", name) + " --ssl-mode=VERIFY_IDENTITY --ssl-ca=DIR/ca.pem";
    for (situation, name, verdict, transport) in [
        ("certificate for the name, which is ::1 first", "db01", UP, Transport::Encrypted),
        ("certificate for another name", "db02", ANOTHER_HOST, Transport::None),
        ("no such name", "db03", "down: cannot look up host name db03", Transport::None),
    ] {
        table.named(situation, &hosts, &options(name), verdict, &transport);
    }
}

fn words_of_mariadb(table: &mut Table, keys: &Keys) {
    for (name, lines, verdict) in [
        ("ssl", "ssl", UP),
        ("ssl-ca", "ssl-ca=CA", UP),
        ("ssl-verify-server-cert", "ssl-ca=CA\nssl-verify-server-cert", UP),
        ("skip-ssl", "ssl-ca=CA\nskip-ssl", DENIED),
        ("ssl-verify-server-cert-alone", "ssl\nssl-verify-server-cert", UNVERIFIABLE),
    ] {
        let lines = lines.replace("CA", &keys.0.join("ca.pem").display().to_string());
        keys.0.file(&format!("{name}.cnf"), format!("[client]\npassword={PASSWORD}\n{lines}\n"));
        let situation =
            format!("option file with {}", lines.replace(&*keys.0.path().to_string_lossy(), "DIR").replace('\n', " "));
        let options = TLS.replace("right", name);
        match verdict {
            UP => table.up(&situation, &options, &Transport::Encrypted),
            UNVERIFIABLE => table.misconfigured(&situation, &options, verdict),
            _ => drop(table.row(&situation, &options, verdict)),
        }
    }
}

fn client_certificates(table: &mut Table) {
    let x509 = TLS.replace("user=tls", "user=x509") + " --ssl-mode=REQUIRED";
    let with =
        |certificate: &str, key: &str| format!("{x509} --ssl-cert=DIR/{certificate}.pem --ssl-key=DIR/{key}.key");
    let situation = "account with REQUIRE X509";
    table.row(situation, &x509, DENIED);
    table.up(situation, &with("client", "client"), &Transport::Encrypted);
    table.row(situation, &with("client", "here"), "down: cannot log in: `ssl-key` is not the key of `ssl-cert`");
    table.row(
        situation,
        &with("foreign-client", "foreign-client"),
        "down: cannot log in: the server does not trust the CA that signed `ssl-cert`",
    );
}

fn files_of_ours(table: &mut Table, keys: &Keys) {
    let ca = fs::read(keys.0.join("ca.pem")).unwrap();
    let writable = keys.0.file("writable.pem", &ca);
    fs::set_permissions(writable, fs::Permissions::from_mode(0o666)).unwrap();
    keys.0.file("text.pem", "not a certificate\n");
    keys.0.file("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    for (name, verdict) in [
        ("missing", "down: cannot use `ssl-ca` DIR/missing.pem: no such file"),
        (
            "writable",
            "down: cannot use `ssl-ca` DIR/writable.pem: others may write it (mode 0666): run `chmod go-w` on it",
        ),
        ("text", "down: cannot use `ssl-ca` DIR/text.pem: it has no PEM certificate"),
        ("broken", BROKEN),
    ] {
        table.row("file of ours", &format!("{TLS} --ssl-ca=DIR/{name}.pem"), verdict);
    }
    let swapped = format!("{TLS} --ssl-mode=REQUIRED --ssl-cert=DIR/client.key --ssl-key=DIR/client.pem");
    table.row("file of ours", &swapped, "down: cannot use `ssl-cert` DIR/client.key: it has no PEM certificate");
}

/// A server that was told to offer none; and what it makes for itself where it was told nothing.
fn without_and_self_made(software: Software) {
    let keys = Keys::new();
    let server = Server::start_of(software, &[]);
    let mut table = Table::new("Self-made TLS", &server, &keys.0);
    let self_made = "certificate that the server made for itself";
    table.row(self_made, &format!("{ANY} --ssl-mode=VERIFY_CA --ssl-ca=DIR/ca.pem"), FOREIGN);
    table.name("DATA", server.dir().join("data").display());
    if software.is_mysql() {
        table.row(self_made, &format!("{ANY} --ssl-mode=VERIFY_CA --ssl-ca=DATA/ca.pem"), UP);
        table.row(self_made, &format!("{ANY} --ssl-mode=VERIFY_IDENTITY --ssl-ca=DATA/ca.pem"), ANOTHER_HOST);
    }
    table.up(self_made, &format!("{ANY} --ssl-mode=REQUIRED"), &Transport::Encrypted);
    table.close();
}

fn without(software: Software, line: &str) {
    let keys = Keys::new();
    let server = Server::start_of(software, &[line]);
    let mut table = Table::new("No TLS", &server, &keys.0);
    let situation = format!("server with {line}");
    let before = server.counter("Connections");
    let twice = format!("{situation}: connects twice");
    table.up(&twice, &format!("{ANY} --ssl-mode=PREFERRED"), &Transport::Plain);
    // The counting one, and two of the check.
    assert_eq!(server.counter("Connections"), before + 3);
    let words = "down: cannot log in: the server does not offer TLS";
    table.row(&situation, &format!("{ANY} --ssl-mode=REQUIRED"), words);
    table.row(&situation, &format!("{ANY} --ssl-ca=DIR/ca.pem"), words);
    table.close();
}

#[test]
fn tls_on_mariadb_10_11() {
    every_mode_on(Software::MariaDb);
}

#[test]
fn tls_on_mariadb_11_8() {
    every_mode_on(Software::MariaDb11);
}

#[test]
fn tls_on_mysql_9() {
    every_mode_on(Software::MySql9);
}

#[test]
fn tls_that_mariadb_11_8_makes_for_itself() {
    without_and_self_made(Software::MariaDb11);
}

#[test]
fn tls_that_mysql_9_makes_for_itself() {
    without_and_self_made(Software::MySql9);
}

#[test]
fn no_tls_on_mariadb_10_11() {
    without(Software::MariaDb, "skip_ssl");
}

#[test]
fn no_tls_on_mysql_9() {
    without(Software::MySql9, "tls_version=");
}
