//! PostgreSQL's own programs: missing, too old, failing, killed; and what others see of them.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use mt_core::{DatabaseFactory as _, ErrorKind};
use mt_postgres::PostgresFactory;
use tempfile::TempDir;

use crate::support::{ROLE_SECRET, Stage, Taken, context, tenant};

/// A version that fits every server.
const NEWEST: &str = "99.1";

/// A folder with programs made of shell scripts.
fn programs(version: &str, dump: &str, restore: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, script) in [("pg_dump", dump), ("pg_restore", restore)] {
        let path = folder.path().join(name);
        let told = format!("{name} (PostgreSQL) {version}");
        let script =
            format!("#!/bin/sh\n[ \"$1\" = --version ] && echo '{told}' && exit\n{script}\n");
        // Under another name first: whoever starts a program that is being written fails.
        fs::write(path.with_extension("new"), script).unwrap();
        fs::set_permissions(path.with_extension("new"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }
    folder
}

fn factory(stage: &Stage, folder: &Path) -> PostgresFactory {
    stage.site.builder(&stage.context).with_client_programs(folder).build().unwrap()
}

#[tokio::test]
async fn without_programs_or_with_old_ones_nothing_is_done_and_it_says_what_to_install() {
    let stage = Stage::set().await;
    let (none, old) = (tempfile::tempdir().unwrap(), programs("9.6.24", "exit 7", "exit 7"));
    let nonsense = programs("x", "exit 7", "exit 7");
    for folder in [&none, &old, &nonsense] {
        let factory = factory(&stage, folder.path());
        factory.describe(&stage.tenant).await.unwrap();
        let capabilities = factory.capabilities();
        assert!(!capabilities.backup && !capabilities.restore);
        let mut sink = Vec::new();
        let error = factory.backup(&stage.tenant, &mut sink).await.unwrap_err();
        assert_eq!((error.kind(), sink.len()), (ErrorKind::Unsupported, 0));
        let told = error.to_string();
        let shown = folder.path().display().to_string();
        for word in ["pg_dump", "postgresql-client", "`client_programs`", &shown] {
            assert!(told.contains(word), "{word}: {told}");
        }
        if folder.path() == old.path() {
            assert!(told.contains("version 9") && told.contains("server is PostgreSQL"), "{told}");
        }
        let manifest = made_up(&stage).await;
        let restored = manifest.restore(&factory, &stage.tenant).await.unwrap_err();
        assert_eq!(restored.kind(), ErrorKind::Unsupported);
    }
    assert_eq!(stage.remains().await, [""; 0]);
}

#[tokio::test]
async fn a_check_of_the_contract_holds_without_programs() {
    let none = tempfile::tempdir().unwrap();
    let stage = Stage::set().await;
    let make = || std::sync::Arc::new(factory(&stage, none.path()));
    let subject = mt_conformance::Subject::new(make(), make());
    for check in [
        mt_conformance::capabilities_are_true(&subject).await,
        mt_conformance::restore_gives_back_the_rows_of_the_backup(&subject).await,
        mt_conformance::a_manifest_tells_what_was_written(&subject).await,
    ] {
        check.unwrap();
    }
}

#[tokio::test]
async fn the_programs_check_the_servers_certificate_as_our_own_connections_do() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let (ours, theirs) = (tempfile::NamedTempFile::new(), tempfile::NamedTempFile::new());
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    let another = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(&ours, &certificate).unwrap();
    fs::write(&theirs, another.cert.pem()).unwrap();
    let server = mt_devservers::Postgres::builder().tls(&certificate, key).start().await.unwrap();
    let url = server.url().replace("127.0.0.1", "localhost");
    let context = context();
    let factory = |root: &Path| {
        let url = format!("{url}?sslmode=verify-full&sslrootcert={}", root.display());
        let builder = PostgresFactory::builder().with_admin_url(url);
        builder.with_role_secret(ROLE_SECRET).with_context(context.clone()).build().unwrap()
    };
    let (trusting, wary) = (factory(ours.path()), factory(theirs.path()));
    let acme = tenant("acme");
    trusting.provision(&acme).await.unwrap();
    assert!(Taken::of(&wary, &acme).await.is_err());
    if trusting.capabilities().backup {
        let taken = Taken::of(&trusting, &acme).await.unwrap();
        taken.restore(&trusting, &acme).await.unwrap();
    }
    trusting.deprovision(&acme).await.unwrap();
}

/// A copy that only its manifest says something of.
async fn made_up(stage: &Stage) -> Taken {
    let folder = programs(NEWEST, "printf PGDMP", "exit 0");
    Taken::of(&factory(stage, folder.path()), &stage.tenant).await.unwrap()
}

#[tokio::test]
async fn a_program_that_fails_or_is_killed_is_an_error_with_its_words() {
    let stage = Stage::set().await;
    let partly = "printf PGDMP; echo 'pg_dump: error: no luck' >&2;";
    for (end, kind) in [("exit 1", ErrorKind::Internal), ("kill -9 $$", ErrorKind::Unavailable)] {
        let folder = programs(NEWEST, &format!("{partly} {end}"), "exit 0");
        let factory = factory(&stage, folder.path());
        let error = Taken::of(&factory, &stage.tenant).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{end}: {}", error.to_chain());
        assert!(error.to_chain().contains("no luck"), "{}", error.to_chain());
    }
    let taken = made_up(&stage).await;
    let long = "head -c 100000 /dev/zero | tr '\\0' x >&2; echo 'pg_restore: error: no luck' >&2;";
    for (end, kind) in [
        ("exit 1", ErrorKind::Corrupt),
        ("echo 'could not execute query' >&2; exit 1", ErrorKind::Unsupported),
        ("kill -9 $$", ErrorKind::Unavailable),
    ] {
        let folder = programs(NEWEST, "exit 0", &format!("{long} {end}"));
        let error =
            taken.restore(&factory(&stage, folder.path()), &stage.tenant).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{end}: {}", error.to_chain());
        let told = error.to_chain();
        assert!(told.contains("no luck") && told.len() < 5_000, "{told}");
    }
    assert_eq!(stage.remains().await, [""; 0]);
    stage.factory.get_adapters(&stage.tenant).await.unwrap();
}

#[tokio::test]
async fn a_backup_that_nobody_waits_for_leaves_no_program_and_no_role() {
    let stage = Stage::set().await;
    let folder = programs(NEWEST, "echo $$ > \"$(dirname \"$0\")/pid\"; exec sleep 600", "exit 0");
    let factory = factory(&stage, folder.path());
    let started = async {
        loop {
            let pid = fs::read_to_string(folder.path().join("pid")).unwrap_or_default();
            match pid.trim().parse::<u32>() {
                Ok(pid) => return pid,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let pid = tokio::select! {
        copied = Taken::of(&factory, &stage.tenant) => panic!("{copied:?}"),
        pid = started => pid,
    };
    stage.tidied().await;
    let state = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    for _ in 0..1_000 {
        // Ended, and perhaps not yet waited for.
        if state().is_empty() || state().contains(") Z ") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it is still there: {}", state());
}

#[tokio::test]
async fn no_password_is_seen_by_others_and_nothing_of_our_environment_by_the_programs() {
    let stage = Stage::set().await;
    let look = "cd \"$(dirname \"$0\")\"; tr '\\0' '\\n' < /proc/$$/cmdline > seen; \
        env | cut -d= -f1 > names; cat \"$PGPASSFILE\" > password; \
        stat -c %a \"$PGPASSFILE\" \"$(dirname \"$PGPASSFILE\")\" > modes; \
        echo \"$PGUSER\" > user; dirname \"$PGPASSFILE\" > folder;";
    let dump = format!("{look} echo 'pg_dump: error: refused' >&2; exit 1");
    let restore = format!("{look} cat > /dev/null; echo 'pg_restore: error: no' >&2; exit 1");
    let taken = made_up(&stage).await;
    let folder = programs(NEWEST, &dump, &restore);
    let factory = factory(&stage, folder.path());
    for part in ["backup", "restore"] {
        let error = match part {
            "backup" => Taken::of(&factory, &stage.tenant).await.map(drop),
            _ => taken.restore(&factory, &stage.tenant).await,
        };
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let password = read("password");
        let password = password.trim().rsplit(':').next().unwrap();
        assert!(password.len() == 64 && read("modes") == "600\n700\n", "{part}");
        let role = read("user");
        assert!(role.contains("--d-"), "{part} as {role}");
        let told = format!("{:?} {} {:?}", error, read("seen"), factory);
        let admins = stage.site.url().password().unwrap().to_owned();
        for secret in [password, ROLE_SECRET, &admins] {
            assert!(!told.contains(secret), "{part}: {told}");
        }
        for name in read("names").lines() {
            let is_known = name.starts_with("PG")
                || [
                    "PATH",
                    "LD_LIBRARY_PATH",
                    "TMPDIR",
                    "HOME",
                    "LC_ALL",
                    "PWD",
                    "OLDPWD",
                    "_",
                    "SHLVL",
                ]
                .contains(&name);
            assert!(is_known, "{part} sees {name}");
        }
        assert!(!read("names").contains("PGPASSWORD"));
        assert!(!Path::new(read("folder").trim()).exists());
    }
}
