//! Copies that somebody changed: a copy is code, and whoever can write one gains nothing by it.

use mt_core::{DatabaseFactory as _, ErrorKind};
use sea_orm::ConnectionTrait as _;

use crate::support::{Stage, Taken, owner, tenant, text};

/// Room in the archive for statements of the same length.
const ROOM: usize = 1_000;

/// Puts `sql` in the place of a statement of the copy.
fn tamper(taken: &Taken, sql: &str) -> Taken {
    let statement = format!("COMMENT ON TABLE public.t IS '{}'", "x".repeat(ROOM));
    let mut bytes = taken.bytes.clone();
    let places: Vec<usize> = bytes
        .windows(statement.len())
        .enumerate()
        .filter_map(|(at, found)| (found == statement.as_bytes()).then_some(at))
        .collect();
    let [at] = places[..] else { panic!("{} places for it", places.len()) };
    let padded = format!("{sql:<width$}", width = statement.len());
    assert_eq!(padded.len(), statement.len());
    bytes[at..at + statement.len()].copy_from_slice(padded.as_bytes());
    taken.resealed(bytes)
}

/// Runs `sql` with `db` and `other`, a role of another tenant, and goes on whatever comes of it.
fn quietly(sql: &str, other: &str) -> String {
    format!(
        "DO $a$ DECLARE db text := quote_ident(current_database()); other text := '\"{other}\"'; \
         BEGIN {sql} EXCEPTION WHEN insufficient_privilege THEN NULL; END $a$"
    )
}

/// A tenant with a copy that there is room in, and a neighbour.
struct Target {
    stage: Stage,
    taken: Taken,
    /// The neighbour's database.
    theirs: String,
    /// The role of the neighbour's requests.
    other: String,
}

impl Target {
    /// `None`: no copies here.
    async fn set() -> Option<Self> {
        let stage = Stage::set().await;
        stage.as_owner("CREATE TABLE t (x int); INSERT INTO t VALUES (1); CREATE SCHEMA app").await;
        stage.as_owner(&format!("COMMENT ON TABLE t IS '{}'", "x".repeat(ROOM))).await;
        if !stage.can_copy().await {
            return None;
        }
        let globex = tenant("globex");
        stage.factory.provision(&globex).await.unwrap();
        let theirs = stage.factory.describe(&globex).await.unwrap().name.as_str().to_owned();
        let other = owner(&mut stage.superuser().await, &theirs).await.replace("--o-", "--w-");
        let taken = Taken::of(&stage.factory, &stage.tenant).await.unwrap();
        Some(Self { stage, taken, theirs, other })
    }
}

#[tokio::test]
async fn a_copy_that_reaches_for_more_is_refused() {
    let Some(Target { stage, taken, theirs, other }) = Target::set().await else { return };
    let denied = (ErrorKind::Unsupported, "denied");
    let owned = (ErrorKind::Unsupported, "must be owner");
    let alone = (ErrorKind::Unsupported, "transaction block");
    let strangers = (ErrorKind::Corrupt, "roles that are not of this database");
    let refused = [
        ("RESET ROLE; SET ROLE NONE; ALTER ROLE CURRENT_USER SUPERUSER".to_owned(), None),
        (format!("COMMIT; DROP DATABASE \"{theirs}\""), Some(alone)),
        (format!("DROP DATABASE \"{theirs}\""), Some(alone)),
        (format!("ALTER DATABASE \"{theirs}\" SET search_path = x"), Some(owned)),
        (format!("COMMENT ON DATABASE \"{theirs}\" IS 'mine'"), Some(owned)),
        (format!("GRANT \"{other}\" TO CURRENT_USER"), None),
        (format!("SET ROLE \"{other}\""), Some(denied)),
        (
            "CREATE FUNCTION public.e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; \
             CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION public.e()"
                .to_owned(),
            Some(denied),
        ),
        ("COPY public.t TO PROGRAM 'true'".to_owned(), None),
        (
            "CREATE FUNCTION public.c(int) RETURNS int LANGUAGE c AS 'libc.so.6', 'system'"
                .to_owned(),
            Some(denied),
        ),
        ("SET ROLE NONE; CREATE TABLE public.mine (x int)".to_owned(), Some(denied)),
        ("SET ROLE NONE; SELECT lo_create(0); RESET ROLE".to_owned(), Some(strangers)),
        (format!("GRANT ALL ON public.t TO \"{other}\""), Some(strangers)),
        (
            quietly("EXECUTE 'GRANT CONNECT ON DATABASE ' || db || ' TO ' || other;", &other),
            Some(strangers),
        ),
        ("INSERT INTO public.t VALUES (2)".to_owned(), Some((ErrorKind::Corrupt, "rows"))),
        (
            "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC".to_owned(),
            Some((ErrorKind::Corrupt, "what will be made")),
        ),
        (
            "DROP VIEW public._mt_tenant; CREATE TABLE public._mt_tenant (tenant text)".to_owned(),
            Some((ErrorKind::Corrupt, "in the place of the stamp")),
        ),
        (
            quietly("EXECUTE 'ALTER DATABASE ' || db || ' ALLOW_CONNECTIONS false';", &other)
                + "; COMMIT; SELECT 1/0",
            None,
        ),
        (
            quietly("EXECUTE 'ALTER DATABASE ' || db || ' IS_TEMPLATE true';", &other)
                + "; COMMIT; SELECT 1/0",
            Some((ErrorKind::Unsupported, "zero")),
        ),
    ];
    for (sql, told) in refused {
        let error = tamper(&taken, &sql).restore(&stage.factory, &stage.tenant).await;
        let error = error.expect_err(&sql);
        // Servers of different versions have different words for some.
        let (kind, words) = told.unwrap_or((ErrorKind::Unsupported, "ERROR"));
        let chain = error.to_chain();
        assert!(error.kind() == kind && chain.contains(words), "{sql}: {chain}");
        require_harmless(&stage, &theirs, &sql).await;
        assert_eq!(stage.remains().await, [""; 0], "{sql}");
    }
}

#[tokio::test]
async fn what_a_copy_gives_to_everybody_is_taken_back() {
    let Some(Target { stage, taken, theirs, other }) = Target::set().await else { return };
    let harmless = [
        quietly("EXECUTE 'SET ROLE NONE'; EXECUTE 'ALTER ROLE ' || quote_ident(session_user) || ' SUPERUSER';", &other),
        quietly("EXECUTE 'ALTER ROLE ' || quote_ident(current_user) || ' LOGIN CREATEROLE';", &other),
        quietly("EXECUTE 'ALTER DATABASE ' || db || ' SET search_path = app, public';", &other),
        quietly("EXECUTE 'GRANT ALL ON DATABASE ' || db || ' TO PUBLIC';", &other),
        quietly("EXECUTE 'ALTER DATABASE ' || db || ' IS_TEMPLATE true CONNECTION LIMIT 0';", &other),
        "GRANT ALL ON SCHEMA public, app TO PUBLIC; GRANT ALL ON public.t TO PUBLIC".to_owned(),
        "CREATE OR REPLACE VIEW public._mt_tenant AS SELECT 'globex'::text AS tenant, ''::text AS deployment, \
         ''::text AS created_at, 1::bigint AS generation".to_owned(),
    ];
    for sql in harmless {
        let restored = tamper(&taken, &sql).restore(&stage.factory, &stage.tenant).await;
        restored.unwrap_or_else(|error| panic!("{sql}: {}", error.to_chain()));
        require_harmless(&stage, &theirs, &sql).await;
        assert_eq!(stage.remains().await, [""; 0], "{sql}");
    }
    stage.factory.get_adapters(&tenant("globex")).await.unwrap();
}

/// The tenant has its data and its rights, and nobody has more than before.
async fn require_harmless(stage: &Stage, theirs: &str, sql: &str) {
    let database = stage.database().await;
    let mut inside = stage.inside(&database).await;
    let (prefix, none) = (&stage.site.prefix, "");
    let mighty = format!(
        "SELECT string_agg(rolname, ',') FROM pg_roles WHERE starts_with(rolname, '{prefix}') \
         AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls \
           OR rolcanlogin AND rolname LIKE '%--o-%')"
    );
    assert_eq!(text(&mut inside, mighty).await, none, "{sql}");
    let members = format!(
        "SELECT string_agg(member::regrole || ' in ' || roleid::regrole, ',') FROM pg_auth_members \
         WHERE starts_with(pg_get_userbyid(member), '{prefix}') \
         AND (pg_get_userbyid(member) NOT LIKE '%--m-%' \
           OR right(pg_get_userbyid(member), 32) <> right(pg_get_userbyid(roleid), 32))"
    );
    assert_eq!(text(&mut inside, members).await, none, "{sql}");
    let settings = "SELECT string_agg(d::text, ',') FROM pg_db_role_setting d \
        JOIN pg_database b ON b.oid = setdatabase WHERE datname = current_database()";
    assert_eq!(text(&mut inside, settings).await, none, "{sql}");
    let strangers = format!(
        "SELECT string_agg(rolname, ',') FROM pg_roles WHERE starts_with(rolname, '{prefix}') \
         AND has_database_privilege(oid, current_database(), 'CONNECT') \
         AND right(rolname, 32) <> (SELECT right(pg_get_userbyid(datdba), 32) FROM pg_database \
           WHERE datname = current_database())"
    );
    assert_eq!(text(&mut inside, strangers).await, none, "{sql}");
    let more = format!(
        "SELECT string_agg(rolname, ',') FROM pg_roles WHERE starts_with(rolname, '{prefix}') \
         AND rolname NOT LIKE '%--o-%' AND (has_schema_privilege(oid, 'public', 'CREATE') \
           OR has_schema_privilege(oid, 'app', 'CREATE') OR has_table_privilege(oid, 't', 'TRUNCATE') \
           OR has_database_privilege(oid, current_database(), 'CREATE, TEMPORARY'))"
    );
    assert_eq!(text(&mut inside, more).await, none, "{sql}");
    let kept = format!(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{theirs}'"
    );
    assert!(text(&mut inside, kept).await.contains("globex"), "{sql}");
    let data = stage.factory.get_adapters(&stage.tenant).await.unwrap();
    data.execute_unprepared("UPDATE t SET x = 1").await.unwrap();
    assert_eq!(text(&mut inside, "SELECT count(*)::text FROM t").await, "1", "{sql}");
}
