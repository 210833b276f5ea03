//! The key file: made once and whole, for its owner only, replaced whole, refused when it is another's.

use std::error::Error as StdError;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;

use proptest::prelude::*;
use tempfile::TempDir;
use thinkwork_vault::{Context, Error, Meaning, MissingKeyFile, Problem, Vault};

type Outcome = Result<(), Box<dyn StdError>>;

fn place() -> Result<(TempDir, PathBuf), std::io::Error> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("data.key");
    Ok((folder, path))
}

fn mode(path: &Path) -> Result<u32, std::io::Error> {
    fs::metadata(path).map(|found| found.mode() & 0o7777)
}

fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<(), std::io::Error> {
    fs::write(path, text)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))
}

fn names(folder: &TempDir) -> Result<Vec<String>, std::io::Error> {
    let entries = fs::read_dir(folder.path())?;
    entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect()
}

#[test]
fn a_missing_file_is_made_for_its_owner_only_or_stops_the_start() -> Outcome {
    let (folder, path) = place()?;
    assert!(matches!(Vault::open_key_file(&path, MissingKeyFile::Refuse), Err(Error::MissingKeyFile { .. })));
    assert!(!path.exists());
    let made = Vault::open_key_file(&path, MissingKeyFile::Create)?;
    assert_eq!(mode(&path)?, 0o600);
    assert_eq!(names(&folder)?, ["data.key"]);
    let bytes = fs::read(&path)?;
    let again = Vault::open_key_file(&path, MissingKeyFile::Create)?;
    assert_eq!(made.key_ids(), again.key_ids());
    assert_eq!(fs::read(&path)?, bytes);
    Ok(())
}

#[test]
fn s25_a_file_that_group_or_others_may_touch_is_refused() -> Outcome {
    let (_folder, path) = place()?;
    Vault::open_key_file(&path, MissingKeyFile::Create)?;
    for bits in [0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o644, 0o660, 0o777] {
        fs::set_permissions(&path, Permissions::from_mode(bits))?;
        for missing in [MissingKeyFile::Create, MissingKeyFile::Refuse] {
            let refused = Vault::open_key_file(&path, missing).err().ok_or("it was taken")?;
            assert!(matches!(refused, Error::Exposed { mode, .. } if mode == bits), "{bits:o}");
            assert!(refused.to_string().contains("chmod 600"));
        }
        assert!(matches!(Vault::add_key(&path), Err(Error::Exposed { .. })), "{bits:o}");
    }
    for bits in [0o600, 0o400, 0o700] {
        fs::set_permissions(&path, Permissions::from_mode(bits))?;
        assert!(Vault::open_key_file(&path, MissingKeyFile::Refuse).is_ok(), "{bits:o}");
    }
    Ok(())
}

#[test]
fn many_first_starts_at_once_open_one_ring() -> Outcome {
    for _ in 0..20 {
        let (folder, path) = place()?;
        let gate = Barrier::new(8);
        let start = || {
            gate.wait();
            Vault::open_key_file(&path, MissingKeyFile::Create)
                .map(|vault| (vault.key_ids(), vault.root_fingerprint().to_owned()))
        };
        let opened: Vec<_> = thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            starts.into_iter().map(thread::ScopedJoinHandle::join).collect()
        });
        let mut rings = Vec::new();
        for ring in opened {
            rings.push(ring.map_err(|_| "a start panicked")??);
        }
        rings.dedup();
        assert_eq!(rings.len(), 1);
        assert_eq!(names(&folder)?, ["data.key"]);
    }
    Ok(())
}

#[test]
fn many_rotations_at_once_lose_no_key() -> Outcome {
    let (folder, path) = place()?;
    let first = Vault::open_key_file(&path, MissingKeyFile::Create)?;
    let gate = Barrier::new(8);
    let added: Vec<_> = thread::scope(|scope| {
        let rotate = || {
            gate.wait();
            Vault::add_key(&path)
        };
        let rotations: Vec<_> = (0..8).map(|_| scope.spawn(rotate)).collect();
        rotations.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    let mut expected = first.key_ids();
    for id in added {
        expected.push(id.map_err(|_| "a rotation panicked")??);
    }
    let mut found = Vault::open_key_file(&path, MissingKeyFile::Refuse)?.key_ids();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    assert_eq!(names(&folder)?, ["data.key"]);
    Ok(())
}

#[test]
fn a_rotation_keeps_mode_comments_and_link_and_leaves_a_bad_file_alone() -> Outcome {
    let (folder, path) = place()?;
    Vault::open_key_file(&path, MissingKeyFile::Create)?;
    let text = fs::read_to_string(&path)?;
    write(&path, format!("# a note\n\n{}", text.trim_end()))?;
    fs::set_permissions(&path, Permissions::from_mode(0o700))?;
    let link = folder.path().join("link");
    symlink(&path, &link)?;
    let id = Vault::add_key(&link)?;
    assert!(fs::symlink_metadata(&link)?.file_type().is_symlink());
    assert_eq!(mode(&path)?, 0o700);
    let changed = fs::read_to_string(&path)?;
    assert!(changed.starts_with("# a note\n\n# ThinkWork") && changed.ends_with('\n'));
    assert_eq!(Vault::open_key_file(&link, MissingKeyFile::Refuse)?.active_key_id(), id);

    write(&path, "nonsense\n")?;
    assert!(matches!(Vault::add_key(&path), Err(Error::Invalid { .. })));
    assert_eq!(fs::read_to_string(&path)?, "nonsense\n");
    fs::remove_file(&path)?;
    assert!(matches!(Vault::add_key(&path), Err(Error::MissingKeyFile { .. })));
    assert!(!path.exists());
    Ok(())
}

#[test]
fn s25_the_wrong_file_is_told_by_its_fingerprints() -> Outcome {
    let (_folder, path) = place()?;
    let right = Vault::open_key_file(&path, MissingKeyFile::Create)?;
    let id = right.active_key_id().to_owned();
    let stored = right.fingerprint(&id).ok_or("no fingerprint")?;
    let stored_root = right.root_fingerprint().to_owned();
    assert_eq!(stored.len(), 32);
    right.verify_fingerprint(&id, &stored)?;
    right.verify_root_fingerprint(&stored_root)?;

    let other = Vault::in_memory()?;
    assert_eq!(other.fingerprint(&id), None);
    assert!(matches!(other.verify_fingerprint(&id, &stored), Err(Error::AbsentKey { .. })));
    assert!(matches!(other.verify_root_fingerprint(&stored_root), Err(Error::WrongRoot)));
    assert!(matches!(right.verify_fingerprint(&id, ""), Err(Error::WrongKey { .. })));

    // The same id over other bytes: a file put together by hand.
    let (_folder, path) = place()?;
    let strange = Vault::open_key_file(&path, MissingKeyFile::Create)?;
    write(&path, fs::read_to_string(&path)?.replace(&strange.active_key_id(), &id))?;
    let strange = Vault::open_key_file(&path, MissingKeyFile::Refuse)?;
    let refused = strange.verify_fingerprint(&id, &stored).err().ok_or("it was taken")?;
    assert!(matches!(refused, Error::WrongKey { ref kek_id } if *kek_id == id));
    Ok(())
}

#[test]
fn a_text_that_is_no_ring_is_refused_with_its_line_and_without_its_bytes() -> Outcome {
    const KEY: &str = "thinkwork-key-1 kek_a 2026-01-31T12:00:00Z AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const ROOT: &str = "thinkwork-root-1 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let at = |line, reason| Problem::Line { line, reason };
    let cases = [
        (String::new(), Problem::NoKey),
        (format!("{ROOT}\n"), Problem::NoKey),
        (format!("{KEY}\n"), Problem::NoRoot),
        (format!("{ROOT}\n{ROOT}\n{KEY}\n"), at(2, "is a second thinkwork-root-1 line")),
        (format!("{ROOT}\n{KEY}\n{KEY}\n"), at(3, "repeats the id of an earlier key")),
        (format!("{ROOT}\n{KEY} canary\n"), at(2, "has too few or too many words")),
        (format!("{ROOT}\nthinkwork-key-1\n"), at(2, "has too few or too many words")),
        (format!("{ROOT}\n{}\n", KEY.replace("kek_a", "a*canary")), at(2, "holds no valid key id")),
        (format!("{ROOT}\n{}\n", KEY.replace("2026", "canary")), at(2, "holds no valid time")),
        (format!("{ROOT}\n{}\n", KEY.replace("AAA=", "AA==")), at(2, "does not end in 32 bytes of base64")),
        (format!("{ROOT}\n{}\n", KEY.replace("AAA=", "")), at(2, "does not end in 32 bytes of base64")),
        (format!("{ROOT}\n{}\n", KEY.replace("AAA=", "AAAAAAAA")), at(2, "does not end in 32 bytes of base64")),
        (format!("{ROOT}\n{KEY}\ncanary\n"), at(3, "is of no known kind; it may come from a newer release")),
        ("#".repeat(65_537), Problem::TooLarge { max: 65_536 }),
    ];
    let (folder, path) = place()?;
    for (text, expected) in cases {
        write(&path, &text)?;
        let refused = Vault::open_key_file(&path, MissingKeyFile::Create).err().ok_or("it was taken")?;
        assert!(!format!("{refused} {refused:?}").contains("canary"), "{text}");
        assert!(matches!(refused, Error::Invalid { ref problem, .. } if *problem == expected), "{refused} for {text}");
        assert_eq!(fs::read_to_string(&path)?, text);
    }
    write(&path, [0xff])?;
    let refused = Vault::open_key_file(&path, MissingKeyFile::Create).err();
    assert!(matches!(refused, Some(Error::Invalid { problem: Problem::NotText, .. })));
    assert!(matches!(Vault::open_key_file(folder.path(), MissingKeyFile::Create), Err(Error::NotAFile { .. })));
    write(&path, format!("{ROOT}\r\n\r\n{KEY}\r\n"))?;
    assert_eq!(Vault::open_key_file(&path, MissingKeyFile::Refuse)?.active_key_id(), "kek_a");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_refused_and_never_panic(bytes: Vec<u8>) {
        let (_folder, path) = place()?;
        write(&path, &bytes)?;
        let refused = matches!(Vault::open_key_file(&path, MissingKeyFile::Create), Err(Error::Invalid { .. }));
        prop_assert!(refused);
    }
}

#[test]
fn an_open_ring_takes_up_a_key_that_another_process_added() -> Result<(), Error> {
    let folder = tempfile::tempdir().map_err(|_| Error::Random)?;
    let path = folder.path().join("key");
    let server = Vault::open_key_file(&path, MissingKeyFile::Create)?;
    let first = server.active_key_id();
    Vault::add_key(&path)?;
    let command = Vault::open_key_file(&path, MissingKeyFile::Refuse)?;
    let context = Context {
        tenant: thinkwork_primitives::TenantId::new(),
        owner_kind: "webhook",
        owner_id: "whk".to_owned(),
        credential: thinkwork_primitives::CredentialId::new(),
        kind: "webhook_secret",
        version: 1,
    };
    let sealed = command.seal(
        &context,
        &Meaning::new("token"),
        &thinkwork_primitives::Secret::from_text("secret".to_owned()),
    )?;
    assert_ne!(sealed.kek_id, first);
    assert_eq!(server.open(&context, &Meaning::new("token"), &sealed)?.expose(), b"secret");
    assert_eq!(server.active_key_id(), sealed.kek_id);
    // Another file in its place is not ours.
    std::fs::remove_file(&path).map_err(|_| Error::Random)?;
    let stranger = Vault::open_key_file(&path, MissingKeyFile::Create)?;
    let foreign = stranger.seal(
        &context,
        &Meaning::new("token"),
        &thinkwork_primitives::Secret::from_text("secret".to_owned()),
    )?;
    assert!(matches!(server.open(&context, &Meaning::new("token"), &foreign), Err(Error::UnknownKey { .. })));
    Ok(())
}
