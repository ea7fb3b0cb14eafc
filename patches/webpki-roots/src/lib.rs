//! Instead of `webpki-roots`: no authority at all.
//!
//! The driver adds Mozilla's list of public authorities to what the caller trusts, and has no switch for it (28.0.4). With
//! `--ssl-mode=VERIFY_CA`, which does not look at the host name, any certificate of any public authority would do: that
//! is no verification. A database has an authority of its own, which `ssl-ca` names. It also keeps 250 KB of
//! certificates out of each binary.
//!
//! It can go when the driver can be told to do without (`mysql_async` has `disable_built_in_roots`).

use rustls_pki_types::{Der, TrustAnchor};

/// One authority that does not exist: its name and its key are not DER, so no certificate can name it or be verified with it.
/// An empty list would not do: rustls refuses it, also where nothing is verified (`--ssl-mode=REQUIRED`).
pub const TLS_SERVER_ROOTS: &[TrustAnchor<'static>] = &[TrustAnchor {
    subject: Der::from_slice(b"nobody"),
    subject_public_key_info: Der::from_slice(b""),
    name_constraints: None,
}];

/// What only this crate has: `crates/check` names it, so that nothing compiles with the real list, as where a package is
/// built without `[patch.crates-io]`.
pub const NO_PUBLIC_AUTHORITY: () = ();
