use super::*;
use mysql_common::constants::{CapabilityFlags, StatusFlags};
use mysql_common::packets::HandshakePacket;
use std::cell::Cell;
use std::io::ErrorKind;

#[test]
fn families_are_told_by_their_greeting() {
    let family = |greeting: &str| {
        let (salt, none) = (*b"abcdefgh", CapabilityFlags::empty());
        let packet = HandshakePacket::new(
            10,
            greeting.as_bytes(),
            1,
            salt,
            None::<&[u8]>,
            none,
            33,
            StatusFlags::empty(),
            None::<&[u8]>,
        );
        Family::from_version(packet.server_version_parsed().unwrap())
    };
    for greeting in ["5.5.5-10.11.19-MariaDB-0+deb12u1", "11.8.6-MariaDB", "11.4.5-3-MariaDB-enterprise-log"] {
        assert_eq!(family(greeting), Family::MariaDb, "{greeting}");
    }
    assert_eq!(family("5.7.44-log"), Family::MySql(5, 7, 44));
    assert_eq!(family("9.7.4"), Family::MySql(9, 7, 4));
    assert_eq!(family("10.0.0"), Family::MySql(10, 0, 0));
    assert_eq!(family("11.8.6"), Family::MySql(11, 8, 6));
}

#[test]
fn a_name_that_is_verified_leads_to_all_its_addresses() {
    let addresses = ["[::1]:3306".parse().unwrap(), "127.0.0.1:3306".parse().unwrap()];
    let route = |local: Option<&str>| ("db01".to_owned(), 3306, local.map(|local| local.parse().unwrap()));
    assert_eq!(
        routes_by_name("db01", 3306, &addresses),
        [route(None), route(Some("0.0.0.0:0")), route(Some("[::]:0"))]
    );
    assert_eq!(routes_by_name("db01", 3306, &addresses[..1]), [route(None)]);
}

#[test]
fn a_driver_that_wants_a_password_is_no_mystery() {
    let log_in = |has| once_more(has, || -> Result<(), _> { panic!("wanted one") });
    let words = "cannot log in: the authentication plugin needs a password";
    assert_eq!(log_in(false), Err(Error::new(words)));
    assert!(panic::catch_unwind(|| log_in(true)).is_err());
}

#[test]
fn what_the_driver_may_be_to_blame_for_is_tried_once_more() {
    let tries = |has_password, first: fn() -> Result<u32, Error>| {
        let count = Cell::new(0);
        let done = once_more(has_password, || {
            count.set(count.get() + 1);
            if count.get() == 1 { first() } else { Ok(count.get()) }
        });
        (done, count.get())
    };
    let denied = || Err(Error::refused("log in", ER_ACCESS_DENIED_ERROR, "access denied"));
    assert_eq!(tries(true, denied), (Ok(2), 2));
    assert_eq!(tries(true, || panic!("the challenge is too short")), (Ok(2), 2));
    assert_eq!(tries(false, denied), (denied(), 1));
    assert_eq!(tries(true, || Ok(7)), (Ok(7), 1));
    let full = || Err(Error::refused("log in", ER_CON_COUNT_ERROR, "too many connections"));
    assert_eq!(tries(true, full), (full(), 1));
}

#[test]
fn a_broken_certificate_of_ours_is_not_the_servers() {
    let broken = rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
    let ours = mysql::Error::TlsError(TlsError::Tls(broken.clone()));
    assert_eq!(
        explain("log in", &ours).to_string(),
        "cannot log in: a certificate in `ssl-ca` or `ssl-cert` cannot be read"
    );
    let theirs = mysql::Error::IoError(std::io::Error::new(ErrorKind::InvalidData, broken));
    assert_eq!(
        explain("log in", &theirs).to_string(),
        "cannot log in: the server's certificate cannot be used (BadEncoding)"
    );
}

#[test]
fn an_address_that_the_system_refuses_is_not_a_long_path() {
    let refused = DriverError::CouldNotConnect(Some(("[fe80::1]:3306".into(), String::new(), ErrorKind::InvalidInput)));
    let error = login_error(&Endpoint::Tcp("fe80::1".into(), 3306), &refused.into());
    let words = "cannot connect to [fe80::1]:3306: the system rejects this address";
    assert_eq!(error.to_string(), words);
}
