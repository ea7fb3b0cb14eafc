//! TLS to the server: the words of both families, what they mean together, and what failed, in our words.
//!
//! Off unless an option asks for it, and never used on a Unix socket, which does not leave the host. Nothing of it runs
//! then.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use rustls::{AlertDescription, CertificateError, Error as TlsError};

use crate::trusted::{self, Opener};
use crate::watch::Watch;

/// The driver trusts the authorities of this crate in addition to those of `ssl-ca`. The real list does not have the name, and
/// then this does not compile.
const _: () = webpki_roots::NO_PUBLIC_AUTHORITY;

/// The largest file of certificates, in bytes: all public authorities together are a fourth of it.
const FILE_MAX: u64 = 1024 * 1024;

/// The options of TLS, as typed.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct Options {
    /// Encrypt TCP: DISABLED, PREFERRED, REQUIRED, `VERIFY_CA` or `VERIFY_IDENTITY` [default: DISABLED]
    #[arg(long, value_name = "MODE", value_parser = mode, help_heading = "Server")]
    ssl_mode: Option<Mode>,
    /// Trust the CAs in this PEM file; alone it means `VERIFY_CA`
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    ssl_ca: Option<PathBuf>,
    /// Present this certificate to the server
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    ssl_cert: Option<PathBuf>,
    /// The key of the certificate
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    ssl_key: Option<PathBuf>,
    /// MariaDB's name for REQUIRED
    #[arg(long, help_heading = "Server")]
    ssl: Option<bool>,
    /// MariaDB's name for `VERIFY_IDENTITY`
    #[arg(long, help_heading = "Server")]
    ssl_verify_server_cert: Option<bool>,
}

/// How much is asked of the connection, from little to much.
///
/// Source: `--ssl-mode` in "Command Options for Encrypted Connections", `MySQL` 8.4 Reference Manual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Not encrypted.
    Disabled,
    /// Encrypted where the server offers it.
    Preferred,
    /// Encrypted, whichever server answers.
    Required,
    /// And the certificate is signed by a CA in `ssl-ca`.
    VerifyCa,
    /// And it is for the host we asked for.
    VerifyIdentity,
}

fn mode(text: &str) -> Result<Mode, String> {
    match text.to_ascii_uppercase().as_str() {
        "DISABLED" => Ok(Mode::Disabled),
        "PREFERRED" => Ok(Mode::Preferred),
        "REQUIRED" => Ok(Mode::Required),
        "VERIFY_CA" => Ok(Mode::VerifyCa),
        "VERIFY_IDENTITY" => Ok(Mode::VerifyIdentity),
        _ => Err("must be DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY".into()),
    }
}

/// TLS as asked for: never [`Mode::Disabled`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// How much is asked.
    pub mode: Mode,
    /// The authorities that may sign the server's certificate; always there where it is verified.
    pub authorities: Option<PathBuf>,
    /// Our certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Options {
    /// What the options mean together; `None` is no TLS. `ssl-mode` decides alone; without it `MariaDB`'s options count, and a
    /// file that is given is meant to be used.
    ///
    /// # Errors
    /// Verification without the authorities to verify with.
    pub fn resolve(self) -> Result<Option<Tls>> {
        let given = self.ssl_ca.is_some() || self.ssl_cert.is_some() || self.ssl_key.is_some();
        let mode = match (self.ssl_mode, self.ssl, self.ssl_verify_server_cert) {
            (Some(mode), ..) => mode,
            (None, Some(false), _) => Mode::Disabled,
            (None, _, Some(true)) => Mode::VerifyIdentity,
            (None, _, None) if self.ssl_ca.is_some() => Mode::VerifyCa,
            (None, Some(true), _) => Mode::Required,
            (None, None, _) if given => Mode::Required,
            (None, None, _) => Mode::Disabled,
        };
        ensure!(
            self.ssl_verify_server_cert != Some(true) || matches!(mode, Mode::VerifyIdentity | Mode::Disabled),
            "`ssl-verify-server-cert` asks for more than `ssl-mode`: write `ssl-mode=VERIFY_IDENTITY`, or drop one of them"
        );
        ensure!(
            self.ssl_verify_server_cert != Some(true) || self.ssl != Some(false) || self.ssl_mode.is_some(),
            "`ssl=0` and `ssl-verify-server-cert` exclude each other"
        );
        if mode == Mode::Disabled {
            return Ok(None);
        }
        ensure!(
            self.ssl_ca.is_some() || !mode.verifies(),
            "the server's certificate cannot be verified without a CA: write `ssl-ca=FILE`"
        );
        // As in the client programs, one file may hold both.
        let identity = match (self.ssl_cert, self.ssl_key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (Some(both), None) | (None, Some(both)) => Some((both.clone(), both)),
            (None, None) => None,
        };
        Ok(Some(Tls { mode, authorities: self.ssl_ca, identity }))
    }
}

impl Mode {
    /// Whether the server's certificate must come from an authority of ours.
    #[must_use]
    pub fn verifies(self) -> bool {
        matches!(self, Mode::VerifyCa | Mode::VerifyIdentity)
    }
}

impl Tls {
    /// Checks the files before the driver reads them, whose error would not name the file.
    ///
    /// # Errors
    /// A file that cannot be read, that others may write, that is too large, or that has nothing of its kind in it.
    pub fn ensure_files(&self, watch: &dyn Watch) -> Result<()> {
        let mut opener = Opener::new(watch);
        let (certificate, key) =
            self.identity.as_ref().map_or((None, None), |(certificate, key)| (Some(certificate), Some(key)));
        for (option, file, kind) in [
            ("ssl-ca", self.authorities.as_ref(), "CERTIFICATE-----"),
            ("ssl-cert", certificate, "CERTIFICATE-----"),
            ("ssl-key", key, "PRIVATE KEY-----"),
        ] {
            if let Some(file) = file {
                ensure_pem(&mut opener, file, kind)
                    .with_context(|| format!("cannot use `{option}` {}", file.display()))?;
            }
        }
        Ok(())
    }
}

fn ensure_pem(opener: &mut Opener<'_>, file: &Path, kind: &str) -> Result<()> {
    let bytes = trusted::read(opener.open(file), FILE_MAX)?;
    let text = String::from_utf8_lossy(&bytes);
    ensure!(!text.contains("ENCRYPTED"), "the key has a passphrase: write a key without one");
    ensure!(text.contains(kind), "it has no PEM {}", kind.trim_end_matches('-').to_lowercase());
    Ok(())
}

const NO_TLS_WE_KNOW: &str = "no TLS 1.2 or 1.3 in common with the server";

/// What failed, in our words. The server's certificate is named only by what is wrong with it.
#[must_use]
pub fn words(error: &TlsError) -> String {
    use CertificateError as Cert;
    match error {
        TlsError::InvalidCertificate(why) => match why {
            Cert::Expired | Cert::ExpiredContext { .. } => "the server's certificate has expired".into(),
            Cert::NotValidYet | Cert::NotValidYetContext { .. } => "the server's certificate is not valid yet".into(),
            Cert::UnknownIssuer => "no CA in `ssl-ca` signed the server's certificate".into(),
            Cert::NotValidForName | Cert::NotValidForNameContext { .. } => {
                "the server's certificate is for another host".into()
            }
            Cert::BadSignature => "the signature of the server's certificate is wrong".into(),
            Cert::Other(why) => format!("the server's certificate cannot be used ({why})"),
            why => format!("the server's certificate cannot be used ({why:?})"),
        },
        TlsError::AlertReceived(alert) => match alert {
            AlertDescription::UnknownCA => "the server does not trust the CA that signed `ssl-cert`".into(),
            AlertDescription::CertificateExpired => "`ssl-cert` has expired".into(),
            AlertDescription::CertificateRequired => "the server asks for a certificate, set `ssl-cert`".into(),
            AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion => NO_TLS_WE_KNOW.into(),
            alert => format!("the server ended TLS ({alert:?})"),
        },
        TlsError::PeerIncompatible(_) => NO_TLS_WE_KNOW.into(),
        TlsError::InconsistentKeys(_) => "`ssl-key` is not the key of `ssl-cert`".into(),
        TlsError::NoCertificatesPresented => "the server sent no certificate".into(),
        _ => "TLS failed".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn options() -> Options {
        Options { ssl_mode: None, ssl_ca: None, ssl_cert: None, ssl_key: None, ssl: None, ssl_verify_server_cert: None }
    }

    #[test]
    fn the_words_of_both_families_mean_one_mode() {
        let ca = || Some(PathBuf::from("/ca"));
        let base = options;
        for (options, mode) in [
            (base(), None),
            (Options { ssl_mode: Some(Mode::Disabled), ssl_ca: ca(), ssl: Some(true), ..base() }, None),
            (Options { ssl_mode: Some(Mode::Preferred), ssl_ca: ca(), ..base() }, Some(Mode::Preferred)),
            (Options { ssl_mode: Some(Mode::VerifyIdentity), ssl_ca: ca(), ..base() }, Some(Mode::VerifyIdentity)),
            (Options { ssl_ca: ca(), ..base() }, Some(Mode::VerifyCa)),
            (Options { ssl_ca: ca(), ssl: Some(true), ..base() }, Some(Mode::VerifyCa)),
            (Options { ssl_ca: ca(), ssl: Some(false), ..base() }, None),
            (Options { ssl_ca: ca(), ssl_verify_server_cert: Some(true), ..base() }, Some(Mode::VerifyIdentity)),
            (Options { ssl_ca: ca(), ssl_verify_server_cert: Some(false), ..base() }, Some(Mode::Required)),
            (Options { ssl: Some(true), ..base() }, Some(Mode::Required)),
            (Options { ssl_cert: ca(), ..base() }, Some(Mode::Required)),
            (Options { ssl_verify_server_cert: Some(false), ..base() }, None),
        ] {
            let shown = format!("{options:?}");
            assert_eq!(options.resolve().unwrap().map(|tls| tls.mode), mode, "{shown}");
        }
        let both = Options { ssl_cert: ca(), ..options() }.resolve().unwrap().unwrap();
        assert_eq!(both.identity, Some(("/ca".into(), "/ca".into())));
    }

    #[test]
    fn nothing_is_verified_without_an_authority() {
        for mode in [Mode::VerifyCa, Mode::VerifyIdentity] {
            let error = Options { ssl_mode: Some(mode), ..options() }.resolve().unwrap_err().to_string();
            assert!(error.ends_with("write `ssl-ca=FILE`"), "{error}");
        }
    }

    #[test]
    fn what_the_server_has_against_our_certificate_is_told() {
        for (alert, expected) in [
            (AlertDescription::UnknownCA, "the server does not trust the CA that signed `ssl-cert`"),
            (AlertDescription::CertificateExpired, "`ssl-cert` has expired"),
            (AlertDescription::CertificateRequired, "the server asks for a certificate, set `ssl-cert`"),
            (AlertDescription::ProtocolVersion, NO_TLS_WE_KNOW),
            (AlertDescription::AccessDenied, "the server ended TLS (AccessDenied)"),
        ] {
            assert_eq!(words(&TlsError::AlertReceived(alert)), expected);
        }
    }

    #[test]
    fn verification_is_not_lost_in_a_contradiction() {
        let verify = || Options { ssl_ca: Some("/ca".into()), ssl_verify_server_cert: Some(true), ..options() };
        for (options, refused) in [
            (Options { ssl_mode: Some(Mode::Preferred), ..verify() }, true),
            (Options { ssl_mode: Some(Mode::Required), ..verify() }, true),
            (Options { ssl_mode: Some(Mode::VerifyCa), ..verify() }, true),
            (Options { ssl: Some(false), ..verify() }, true),
            (Options { ssl_mode: Some(Mode::VerifyIdentity), ..verify() }, false),
            // Said in so many words.
            (Options { ssl_mode: Some(Mode::Disabled), ..verify() }, false),
        ] {
            let shown = format!("{options:?}");
            assert_eq!(options.resolve().is_err(), refused, "{shown}");
        }
    }

    #[test]
    fn a_mode_is_read_in_any_case() {
        assert_eq!(mode("verify_ca"), Ok(Mode::VerifyCa));
        assert!(mode("VERIFY-CA").unwrap_err().starts_with("must be DISABLED"));
    }

    #[test]
    fn a_file_is_named_with_what_is_wrong_with_it() {
        let file = std::env::temp_dir().join(format!("tls-{}.pem", std::process::id()));
        let tls = Tls { mode: Mode::VerifyCa, authorities: Some(file.clone()), identity: None };
        let refused = |text: &str, mode: u32| {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            tls.ensure_files(&()).map_err(|error| format!("{error:#}"))
        };
        let place = format!("cannot use `ssl-ca` {}: ", file.display());
        assert_eq!(refused("-----BEGIN CERTIFICATE-----", 0o644), Ok(()));
        assert_eq!(refused("", 0o644), Err(format!("{place}it has no PEM certificate")));
        assert!(refused("-----BEGIN CERTIFICATE-----", 0o666).unwrap_err().contains("others may write it"));
        assert!(refused(&" ".repeat(1024 * 1024 + 1), 0o644).unwrap_err().ends_with("larger than 1024 KiB"));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(tls.ensure_files(&()).map_err(|error| format!("{error:#}")), Err(format!("{place}no such file")));
    }
}
