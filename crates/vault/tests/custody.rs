//! What is sealed opens in its own place, under its own key, unchanged; and nowhere else.

use std::error::Error as StdError;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use thinkwork_primitives::crypto::hex;
use thinkwork_primitives::{CredentialId, Secret, TenantId, UserId};
use thinkwork_vault::{Context, Error, Meaning, MissingKeyFile, Sealed, Vault};

type Outcome = Result<(), Box<dyn StdError>>;

fn context() -> Context {
    Context {
        tenant: TenantId::new(),
        owner_kind: "connection",
        owner_id: UserId::new().to_string(),
        credential: CredentialId::new(),
        kind: "access_token",
        version: 7,
    }
}

fn meaning() -> Meaning {
    Meaning::new("access_token").field("user", "usr_1").optional("resource", None::<&str>)
}

fn secret() -> Secret {
    Secret::from_text("canary-9f31-never-shown".to_owned())
}

fn opens(vault: &Vault, context: &Context, sealed: &Sealed) -> bool {
    vault.open(context, &meaning(), sealed).is_ok_and(|opened| opened.equals(secret().expose()))
}

/// Refused as damaged, in a sentence that names the credential and shows nothing else.
fn refused(vault: &Vault, context: &Context, sealed: &Sealed) -> bool {
    match vault.open(context, &meaning(), sealed) {
        Err(error @ Error::Damaged { .. }) => {
            let text = format!("{error} {error:?}");
            text.contains(&context.credential.to_string()) && !text.contains("canary")
        }
        _ => false,
    }
}

#[test]
fn what_is_sealed_opens_again_and_never_seals_to_the_same_bytes() -> Outcome {
    let vault = Vault::in_memory()?;
    let context = context();
    let one = vault.seal(&context, &meaning(), &secret())?;
    let two = vault.seal(&context, &meaning(), &secret())?;
    assert!(opens(&vault, &context, &one) && opens(&vault.clone(), &context, &two));
    assert_eq!((one.wrapped_key.len(), one.ciphertext.len()), (61, 29 + secret().expose().len()));
    assert_ne!(one.wrapped_key, two.wrapped_key);
    assert_ne!(one.ciphertext, two.ciphertext);
    assert!(!one.ciphertext.windows(6).any(|part| part == b"canary"));
    Ok(())
}

#[test]
fn s25_a_row_with_any_field_swapped_does_not_open() -> Outcome {
    let vault = Vault::in_memory()?;
    let right = context();
    let sealed = vault.seal(&right, &meaning(), &secret())?;
    let wrongs = [
        ("tenant", Context { tenant: TenantId::new(), ..right.clone() }),
        ("owner kind", Context { owner_kind: "mcp_server", ..right.clone() }),
        ("owner id", Context { owner_id: UserId::new().to_string(), ..right.clone() }),
        ("credential", Context { credential: CredentialId::new(), ..right.clone() }),
        ("kind", Context { kind: "refresh_token", ..right.clone() }),
        ("version before", Context { version: 6, ..right.clone() }),
        ("version after", Context { version: 8, ..right.clone() }),
    ];
    for (field, wrong) in wrongs {
        assert!(refused(&vault, &wrong, &sealed), "{field}");
    }
    assert!(opens(&vault, &right, &sealed));
    Ok(())
}

#[test]
fn l112_what_is_sealed_for_one_meaning_opens_for_no_other() -> Outcome {
    let vault = Vault::in_memory()?;
    let context = context();
    let sealed = vault.seal(&context, &meaning(), &secret())?;
    for other in [
        Meaning::new("access_token"),
        Meaning::new("access_token").field("user", "usr_2").optional("resource", None::<&str>),
        Meaning::new("access_token").field("user", "usr_1").field("resource", ""),
        Meaning::new("access_token").field("user", "usr_1"),
    ] {
        assert!(matches!(vault.open(&context, &other, &sealed), Err(Error::Damaged { .. })), "{other:?}");
    }
    assert!(opens(&vault, &context, &sealed));
    Ok(())
}

#[test]
fn s25_halves_of_two_rows_do_not_open_together() -> Outcome {
    let vault = Vault::in_memory()?;
    let other = context();
    let context = context();
    let here = vault.seal(&context, &meaning(), &secret())?;
    let there = vault.seal(&other, &meaning(), &secret())?;
    let again = vault.seal(&context, &meaning(), &secret())?;
    for from in [&there, &again] {
        let key_moved = Sealed { wrapped_key: from.wrapped_key.clone(), ..here.clone() };
        let data_moved = Sealed { ciphertext: from.ciphertext.clone(), ..here.clone() };
        let crossed =
            Sealed { ciphertext: here.wrapped_key.clone(), wrapped_key: here.ciphertext.clone(), ..here.clone() };
        for moved in [key_moved, data_moved, crossed] {
            assert!(refused(&vault, &context, &moved));
        }
    }
    Ok(())
}

#[test]
fn l32_every_shorter_row_is_an_error_with_the_credential() -> Outcome {
    let vault = Vault::in_memory()?;
    let context = context();
    let sealed = vault.seal(&context, &meaning(), &secret())?;
    for length in 0..sealed.wrapped_key.len() {
        let wrapped_key = sealed.wrapped_key.iter().take(length).copied().collect();
        assert!(refused(&vault, &context, &Sealed { wrapped_key, ..sealed.clone() }), "{length}");
    }
    for length in 0..sealed.ciphertext.len() {
        let ciphertext = sealed.ciphertext.iter().take(length).copied().collect();
        assert!(refused(&vault, &context, &Sealed { ciphertext, ..sealed.clone() }), "{length}");
    }
    Ok(())
}

#[test]
fn l32_every_changed_bit_and_every_longer_row_is_an_error_with_the_credential() -> Outcome {
    let vault = Vault::in_memory()?;
    let context = context();
    let sealed = vault.seal(&context, &meaning(), &secret())?;
    let changed = |bytes: &[u8], place: usize, bit: u8| -> Vec<u8> {
        let flip = |(at, byte): (usize, &u8)| if at == place { byte ^ (1 << bit) } else { *byte };
        bytes.iter().enumerate().map(flip).collect()
    };
    for bit in 0..8 {
        for place in 0..sealed.wrapped_key.len() {
            let wrapped_key = changed(&sealed.wrapped_key, place, bit);
            assert!(refused(&vault, &context, &Sealed { wrapped_key, ..sealed.clone() }), "{place} {bit}");
        }
        for place in 0..sealed.ciphertext.len() {
            let ciphertext = changed(&sealed.ciphertext, place, bit);
            assert!(refused(&vault, &context, &Sealed { ciphertext, ..sealed.clone() }), "{place} {bit}");
        }
    }
    let mut longer = sealed.clone();
    longer.ciphertext.push(0);
    assert!(refused(&vault, &context, &longer));
    let mut longer = sealed.clone();
    longer.wrapped_key.push(0);
    assert!(refused(&vault, &context, &longer));
    assert!(opens(&vault, &context, &sealed));
    Ok(())
}

#[test]
fn s25_another_ring_says_which_key_it_lacks_and_shows_no_other_text() -> Outcome {
    let vault = Vault::in_memory()?;
    let other = Vault::in_memory()?;
    let context = context();
    let sealed = vault.seal(&context, &meaning(), &secret())?;
    let error = other.open(&context, &meaning(), &sealed).err().ok_or("it opened")?;
    assert!(matches!(&error, Error::UnknownKey { credential, kek_id }
        if *credential == context.credential && *kek_id == vault.active_key_id()));
    let error = other.rewrap(&context, &sealed).err().ok_or("it was re-wrapped")?;
    assert!(matches!(error, Error::UnknownKey { .. }));
    let strange = Sealed { kek_id: "canary key\n".to_owned(), ..sealed };
    let error = other.open(&context, &meaning(), &strange).err().ok_or("it opened")?;
    assert!(!format!("{error} {error:?}").contains("canary"));
    Ok(())
}

#[test]
fn s25_a_row_that_names_another_live_key_does_not_open() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("k");
    let context = context();
    let sealed = Vault::open_key_file(&path, MissingKeyFile::Create)?.seal(&context, &meaning(), &secret())?;
    let kek_id = Vault::add_key(&path)?;
    let vault = Vault::open_key_file(&path, MissingKeyFile::Refuse)?;
    assert!(opens(&vault, &context, &sealed));
    assert!(refused(&vault, &context, &Sealed { kek_id, ..sealed }));
    Ok(())
}

#[test]
fn rotation_rewraps_the_data_key_only_and_the_old_key_is_then_needless() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("k");
    let context = context();
    let before = Vault::open_key_file(&path, MissingKeyFile::Create)?;
    let old = before.seal(&context, &meaning(), &secret())?;
    assert_eq!(before.rewrap(&context, &old)?, None);

    let added = Vault::add_key(&path)?;
    let during = Vault::open_key_file(&path, MissingKeyFile::Refuse)?;
    assert_eq!((during.active_key_id(), during.key_ids()), (added.clone(), vec![old.kek_id.clone(), added.clone()]));
    let new = during.rewrap(&context, &old)?.ok_or("it was not re-wrapped")?;
    assert_eq!((&new.kek_id, &new.ciphertext), (&added, &old.ciphertext));
    assert!(opens(&during, &context, &new) && opens(&during, &context, &old));
    assert_eq!(during.rewrap(&context, &new)?, None);
    assert!(during.rewrap(&Context { version: 8, ..context.clone() }, &old).is_err());

    assert_eq!(Vault::retire_keys(&path, std::slice::from_ref(&old.kek_id))?, Vec::<String>::new());
    assert_eq!(Vault::retire_keys(&path, &[])?, std::slice::from_ref(&old.kek_id));
    let after = Vault::open_key_file(&path, MissingKeyFile::Refuse)?;
    assert!(opens(&after, &context, &new) && !opens(&after, &context, &old));
    assert!(matches!(Vault::retire_keys(&path, &[old.kek_id]), Err(Error::AbsentKey { .. })));
    assert_eq!(before.mac("csrf", b"m"), after.mac("csrf", b"m"));
    assert_eq!(before.record_key().sign(b"m"), after.record_key().sign(b"m"));
    assert_eq!(before.record_key().mac(&[b"m"]), after.record_key().mac(&[b"m"]));
    assert_eq!(before.root_fingerprint(), after.root_fingerprint());
    Ok(())
}

#[test]
fn derived_keys_differ_by_purpose_and_by_ring() -> Outcome {
    let one = Vault::in_memory()?;
    let two = Vault::in_memory()?;
    assert_eq!(one.mac("csrf", b"m"), one.mac("csrf", b"m"));
    assert_ne!(one.mac("csrf", b"m"), one.mac("flow", b"m"));
    assert_ne!(one.mac("csrf", b"m"), one.mac("csrf", b"n"));
    assert_ne!(one.mac("csrf", b"m"), two.mac("csrf", b"m"));
    assert_ne!(one.record_key().mac(&[b"m"]), two.record_key().mac(&[b"m"]));
    assert!(!two.record_key().is_signature(b"m", &one.record_key().sign(b"m")));
    Ok(())
}

/// A ring and a row that another implementation made from the formats' descriptions (HKDF by RFC 5869, AES-256-GCM).
/// Stored rows must open in every later release, so these bytes never change.
#[test]
fn a_row_of_the_first_format_opens_and_derived_keys_stay() -> Outcome {
    const RING: &str = "\
        thinkwork-root-1 BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n\
        thinkwork-key-1 kek_a 2026-01-31T12:00:00Z BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n";
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("k");
    fs::write(&path, RING)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    let vault = Vault::open_key_file(&path, MissingKeyFile::Refuse)?;
    let context = Context {
        tenant: "ten_01J0000000E008000000000001".parse()?,
        owner_kind: "connection",
        owner_id: "con_1".to_owned(),
        credential: "crd_01J0000000E008000000000002".parse()?,
        kind: "access_token",
        version: 7,
    };
    let sealed = Sealed {
        kek_id: "kek_a".to_owned(),
        wrapped_key: STANDARD
            .decode("AQABAgMEBQYHCAkKC2+bRR3KWJQsMArdSb0v2RJn8J2hWvczmH/AowfvpsGHdWFrPL+F9/ViIS3JR86hog==")?,
        ciphertext: STANDARD.decode("AQwNDg8QERITFBUWF6ghpHDoFzGO+T86Q1oeLGZbt9Vy3amiAz7uU2fW7CUj8HQMRwrJkg==")?,
    };
    assert!(opens(&vault, &context, &sealed));
    assert_eq!(vault.fingerprint("kek_a").as_deref(), Some("2e5c6ee6a45eb2ff46ca0d482802455c"));
    assert_eq!(vault.root_fingerprint(), "aad9595eacb32237e4bcdd10c9865e67");
    assert_eq!(hex(&vault.mac("csrf", b"m")), "820cda56ca914ad6cb219acfd78f7743906e8308bd9a3e11547178722ce451fb");
    assert_eq!(
        hex(&vault.record_key().mac(&[b"m"])),
        "3f05ff726170fce5584c30de2fee786e628bb30b00374da3c450a83c3a8cac09"
    );
    let signature = "8a9a5dd3f7fa95a2ba14ffe66cea9ad5d954bae59074d51e1ae20f17ff5834f0\
                     1fc97a538d0c6baf634fb429fb6614c82d76a65899e5efeb33668bbfb0e85207";
    assert_eq!(hex(&vault.record_key().sign(b"m")), signature);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_secret_of_any_owner_opens_to_itself(bytes: Vec<u8>, owner_id: String, version: i32) {
        let vault = Vault::in_memory()?;
        let context = Context { owner_id, version, ..context() };
        let sealed = vault.seal(&context, &meaning(), &Secret::from_bytes(bytes.clone()))?;
        prop_assert!(vault.open(&context, &meaning(), &sealed)?.equals(&bytes));
    }

    #[test]
    fn l32_arbitrary_bytes_never_open_and_never_panic(wrapped_key: Vec<u8>, ciphertext: Vec<u8>) {
        let vault = Vault::in_memory()?;
        let context = context();
        let kek_id = vault.active_key_id().to_owned();
        let real = vault.seal(&context, &meaning(), &secret())?;
        let sealed = Sealed { kek_id: kek_id.clone(), wrapped_key, ciphertext: ciphertext.clone() };
        prop_assert!(refused(&vault, &context, &sealed));
        let sealed = Sealed { kek_id, wrapped_key: real.wrapped_key, ciphertext };
        prop_assert!(refused(&vault, &context, &sealed));
    }
}
