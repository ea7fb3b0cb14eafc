use super::*;
use crate::options::{DEFAULT_SOCKET, SOCKET_PATH_MAX};
use anyhow::bail;
use std::os::unix::fs::PermissionsExt;

/// Of the name that every program gives its own: clap makes a group of each, and no two may be the same.
#[derive(Debug, Args)]
struct Options {
    #[arg(long)]
    require_writable: bool,
    #[arg(long)]
    timeout: Option<String>,
    #[arg(long)]
    format: Option<String>,
    #[arg(long)]
    share: Option<String>,
    #[arg(long)]
    allow_port: Vec<u16>,
}

/// Parses an option file of this text and these words.
fn parsed(text: &str, words: &[&str]) -> Result<Configured<Options>> {
    let name = format!("args-{}-{:?}.cnf", std::process::id(), std::thread::current().id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let option = format!("--defaults-file={}", file.display());
    let line: Vec<_> = ["program", &option].into_iter().chain(words.iter().copied()).map(OsString::from).collect();
    let program =
        Program { name: "mysqlchk-status", groups: &["mysqlchk", "mysqlchk-status"], about: "", version: "1" };
    let asked = parse::<Options>(program, &line, &(), |_, _| ());
    std::fs::remove_file(&file).unwrap();
    match asked? {
        Asked::Run(configured) => Ok(configured),
        Asked::Print(text) => bail!(text),
    }
}

fn endpoint(text: &str, words: &[&str]) -> String {
    parsed(text, words).map_or_else(|error| format!("{error:#}"), |plan| plan.target.endpoint.to_string())
}

#[test]
fn the_server_named_last_is_the_one() {
    let localhost = "`--host localhost` means the socket, so port 3307 would not be used: write `--host 127.0.0.1`";
    for (text, words, expected) in [
        ("", &[][..], DEFAULT_SOCKET),
        ("", &["--port=3307"], "127.0.0.1:3307"),
        ("", &["-h", "::1"], "[::1]:3306"),
        ("", &["--host=localhost"], DEFAULT_SOCKET),
        ("", &["--host=localhost", "--port=3307"], localhost),
        ("[client]\nsocket=/a\nport=3307\n", &[], "/a"),
        ("[client]\nhost=localhost\nsocket=/a\nport=3307\n", &[], "/a"),
        ("[client]\nsocket=/a\n[mysqlchk]\nport=3307\n", &[], "127.0.0.1:3307"),
        ("[mysqlchk]\nhost=db01\nport=3307\n[mysqlchk-status]\nsocket=/a\n", &[], "/a"),
        ("[client]\nsocket=/a\n", &["--port=3307"], "127.0.0.1:3307"),
        ("[client]\nsocket=/a\n", &["-P3307"], "127.0.0.1:3307"),
        ("[client]\nsocket=/a\n", &["--host=localhost"], "/a"),
        ("[client]\nsocket=/a\n", &["-h", "localhost"], "/a"),
        ("[client]\nsocket=/a\n", &["-hlocalhost"], "/a"),
        ("[client]\nsocket=/a\n", &["-hdb01"], "db01:3306"),
        ("[client]\nsocket=/a\n", &["--host=localhost", "--port=3307"], localhost),
        ("[client]\nhost=db01\nport=3307\n", &["--socket=/a"], "/a"),
        ("[client]\nhost=db01\nport=3307\n", &["--host=db02"], "db02:3307"),
        ("[client]\nsocket=/a\n", &["--socket="], DEFAULT_SOCKET),
        ("[client-server]\nsocket=/a\n[CLIENT-MARIADB]\nport=3307\nhost=db01\n", &["--socket=/b"], "/b"),
        ("[client-mariadb]\nhost=db01\n", &[], "db01:3306"),
        ("[client]\nprotocol=tcp\n", &[], "127.0.0.1:3306"),
        ("[client]\nprotocol=TCP\nsocket=/a\nport=3307\n", &[], "127.0.0.1:3307"),
        ("[client]\nprotocol=TCP\nhost=localhost\nport=3307\n", &[], "127.0.0.1:3307"),
        ("[client]\nprotocol=tcp\nhost=db01\n", &[], "db01:3306"),
        ("[client]\nprotocol=tcp\nhost=db01\n", &["--socket=/a"], "/a"),
        ("[client]\nprotocol=socket\nport=3307\n", &[], DEFAULT_SOCKET),
        ("[client]\nprotocol=socket\nsocket=/a\n", &["--port=3307"], "127.0.0.1:3307"),
        ("[client]\nsocket=/a\n", &["--protocol=TCP"], "127.0.0.1:3306"),
        ("[client]\nprotocol=socket\nhost=db01\n", &[], "`--protocol SOCKET` and `--host db01` exclude each other"),
        ("", &["--protocol=pipe"], "`--protocol pipe`: must be TCP or SOCKET"),
    ] {
        assert_eq!(endpoint(text, words), expected, "{text:?} {words:?}");
    }
}

#[test]
fn a_socket_that_cannot_be_is_refused() {
    let long = "/".repeat(SOCKET_PATH_MAX);
    assert_eq!(endpoint("", &["--socket", &long]), long);
    let longer = format!("`--socket` is 108 bytes long, the limit is 107: {long}/");
    assert_eq!(endpoint("", &["--socket", &format!("{long}/")]), longer);
    let abstract_socket = "`--socket @mysql`: abstract sockets are not supported, write a path or `--host`";
    assert_eq!(endpoint("[client]\nsocket=@mysql\n", &[]), abstract_socket);
}

#[test]
fn a_server_that_is_full_is_asked_on_its_extra_port() {
    let extra = |words: &[&str]| parsed("", words).unwrap().target.extra.map(|extra| extra.to_string());
    assert_eq!(extra(&[]), None);
    assert_eq!(extra(&["--extra-port=3307"]).unwrap(), "127.0.0.1:3307");
    assert_eq!(extra(&["--socket=/a", "--extra-port=3307"]).unwrap(), "127.0.0.1:3307");
    assert_eq!(extra(&["--host=db01", "--extra-port=3307"]).unwrap(), "db01:3307");
}

#[test]
fn flags_are_switched_as_in_every_mysql_program() {
    for (text, words, expected) in [
        ("", &[][..], false),
        ("", &["--require-writable"], true),
        ("", &["--require_writable=ON"], true),
        ("[mysqlchk]\nrequire_writable\n", &[], true),
        ("[mysqlchk]\nloose-require-writable\n", &[], true),
        ("[mysqlchk]\nrequire-writable\n", &["--require-writable=0"], false),
        ("[mysqlchk]\nrequire-writable\n[mysqlchk-status]\nskip-require-writable\n", &[], false),
        ("[mysqlchk]\nrequire-writable=0\nenable-require-writable\n", &[], true),
    ] {
        assert_eq!(parsed(text, words).unwrap().own.require_writable, expected, "{text:?} {words:?}");
    }
}

#[test]
fn of_the_words_of_the_client_programs_those_that_mean_the_same_are_taken() {
    let refused = |line: &str| {
        let error = parsed(&format!("[client]\n{line}\n"), &[]).err();
        error.map(|error| format!("{error:#}").split_once(".cnf:2: ").unwrap().1.to_owned())
    };
    for line in [
        "timeout=5",
        "loose-timeout=5",
        "connect-timeout=5",
        "ssl-cipher=x",
        "tls-version=TLSv1.3",
        "no-auto-rehash",
        "some-word",
        "max-lag=1s",
        "help",
        "skip-ssl",
        "ssl-verify-server-cert=0",
        "loose-ssl-capath=/a",
    ] {
        assert_eq!(refused(line), None, "{line}");
    }
    assert_eq!(parsed("[client]\ntimeout=5\n", &[]).unwrap().own.timeout, None);
    for (line, word) in [
        ("timeout=500ms", "timeout"),
        ("timeout", "timeout"),
        ("require-writable", "require-writable"),
        ("loose_require_writable=0", "require-writable"),
        ("skip-require-writable", "require-writable"),
        ("format=json", "format"),
        ("share=1s", "share"),
        ("allow-port=3307", "allow-port"),
        ("extra-port=3307", "extra-port"),
    ] {
        let expected = format!("`{word}` does not belong in [client]: move it to [mysqlchk]");
        assert_eq!(refused(line), Some(expected), "{line}");
    }
    for (line, word) in [("ssl-capath=/a", "ssl-capath"), ("ssl_crl=/a", "ssl-crl"), ("dns-srv-name=a", "dns-srv-name")]
    {
        let expected = format!("`{word}` is not supported: write `loose-{word}` to ignore it");
        assert_eq!(refused(line), Some(expected), "{line}");
    }
}

#[test]
fn a_message_names_the_place_and_keeps_secrets() {
    let refused = |text: &str, words: &[&str]| format!("{:#}", parsed(text, words).unwrap_err());
    assert!(refused("[mysqlchk]\nport=x\n", &[]).ends_with(".cnf:2: `--port x`: must be a number from 1 to 65535"));
    assert_eq!(refused("", &["--port=70000"]), "`--port 70000`: must be a number from 1 to 65535");
    for words in
        [&["--pasword=hidden"][..], &["hidden"], &["-phidden"], &["--password=hidden"], &["--password", "hidden"]]
    {
        assert!(!refused("", words).contains("hidden"), "{words:?}");
    }
    for line in ["hidden", "!hidden", "!hidden x", "hidden=", "hidden=hidden", "loose hidden", "[hidden", "a='hidden"] {
        let message = refused(&format!("[mysqlchk]\n{line}\n"), &[]);
        assert!(message.contains(".cnf:2: ") && !message.contains("hidden"), "{message}");
    }
}
