use mt_sqlite as _;
use mt_turso as _;

use super::*;

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn load_with(options: &Options, environment: Pairs<'_>) -> Result<Settings> {
    Settings::load_from(options, environment.iter().copied())
}

/// Loads `text` as the settings file.
fn load(text: &str, environment: Pairs<'_>, options: Options) -> Result<Settings> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("my.toml");
    std::fs::write(&file, text).unwrap();
    load_with(&Options { config: Some(file), ..options }, environment)
}

fn origin_of(settings: &Settings, key: &str) -> String {
    let effective = settings.effective();
    effective.iter().find(|one| one.key == key).unwrap().origin.clone()
}

#[test]
fn without_anything_there_are_defaults() {
    let settings = load_with(&Options::default(), &[]).unwrap();
    assert_eq!(settings.data_dir, Path::new("./data"));
    assert_eq!(settings.catalog, CatalogLocation::file("./data/control.db"));
    assert_eq!(settings.provider, "sqlite");
    assert_eq!(settings.table["directory"], "./data/tenants");
    assert_eq!(settings.main_tenant, None);
}

#[test]
fn the_data_folder_moves_everything() {
    let settings = load_with(&Options::default(), &[("MT_DATA_DIR", "/srv/1")]).unwrap();
    assert_eq!(settings.catalog, CatalogLocation::file("/srv/1/control.db"));
    assert_eq!(settings.table["directory"], "/srv/1/tenants");
    assert_eq!(origin_of(&settings, "data_dir"), "MT_DATA_DIR");
    // A folder whose name is a number is still a text.
    let settings = load_with(&Options::default(), &[("MT_DATA_DIR", "2026")]).unwrap();
    assert_eq!(settings.data_dir, Path::new("2026"));
}

#[test]
fn flags_go_over_environment_over_file() {
    let text = "data_dir = 'file'\nmain_tenant = 'file'\ncatalog = 'file'";
    let environment = [("MT_DATA_DIR", "environment"), ("MT_MAIN_TENANT", "environment")];
    let options = Options { data_dir: Some("flag".into()), ..Options::default() };
    let settings = load(text, &environment, options).unwrap();
    assert_eq!(settings.data_dir, Path::new("flag"));
    assert_eq!(settings.main_tenant.as_ref().unwrap().as_str(), "environment");
    assert_eq!(settings.catalog, CatalogLocation::file("file"));
    assert_eq!(origin_of(&settings, "data_dir"), "--data-dir");
    assert!(origin_of(&settings, "catalog").ends_with("my.toml"));
}

#[test]
fn the_catalog_is_a_file_or_a_server_and_its_password_is_not_shown() {
    let url = "postgres://app:hunter2@db.example/catalog";
    for (text, environment, from) in [
        (format!("catalog = '{url}'"), &[][..], "my.toml"),
        ("catalog = 'other'".to_owned(), &[("MT_CATALOG", url)], "MT_CATALOG"),
    ] {
        let settings = load(&text, environment, Options::default()).unwrap();
        assert_eq!(settings.catalog().to_string(), "postgres://db.example:5432/catalog");
        assert!(origin_of(&settings, "catalog").ends_with(from));
        let shown = format!("{settings:?} {:?}", settings.effective());
        assert!(!shown.contains("hunter2") && !shown.contains("app:"), "{shown}");
    }
    let flag = |catalog: &str| Options { catalog: Some(catalog.to_owned()), ..Options::default() };
    let settings = load("", &[("MT_CATALOG", url)], flag("here.db")).unwrap();
    assert_eq!(settings.catalog, CatalogLocation::file("here.db"));
    assert_eq!(origin_of(&settings, "catalog"), "--catalog");
    load("", &[], flag("postgres://app@db.example/catalog")).unwrap();
    for (text, options, word) in [
        ("", flag(url), "MT_CATALOG"),
        ("catalog = 'postgres://app:hunter2@db.example'", Options::default(), "my.toml"),
        ("catalog = 'mysql://app:hunter2@db.example/catalog'", Options::default(), "my.toml"),
        ("catalog = ''", Options::default(), "my.toml"),
    ] {
        let error = load(text, &[], options).unwrap_err();
        let told = error.to_chain();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(told.contains(word) && !told.contains("hunter2"), "{told}");
    }
}

#[test]
fn other_providers_are_made_when_they_are_asked_for() {
    let environment = [TURSO, &[("MT_PROVIDER", "sqlite"), ("MT_TURSO__GROUP", "42")]].concat();
    let settings =
        load("[turso]\ntoken_lifetime_s = 600", &environment, Options::default()).unwrap();
    assert_eq!(settings.other_providers().collect::<Vec<_>>(), ["turso"]);
    assert!(settings.mentions("turso") && !settings.mentions("sqlite"));
    let context = || context_to_check(DeploymentId::random());
    assert_eq!(settings.factory_of("turso", context()).unwrap().name(), "turso");
    assert_eq!(settings.others["turso"]["group"], "42", "a text, as its provider takes it");
    assert!(!format!("{:?}", settings.effective()).contains("hunter2"));
    // `sqlite` needs no settings, and turso is in nobody's way.
    let settings = load_with(&Options::default(), TURSO).unwrap();
    assert_eq!(settings.other_providers().collect::<Vec<_>>(), ["sqlite"]);
    let broken = load("[turso]\nmisspelt = 1", &[], Options::default()).unwrap();
    drop(broken.isolation(&context()).unwrap());
    let error = broken.factory_of("turso", context()).unwrap_err();
    assert!(error.to_chain().contains("my.toml"), "{}", error.to_chain());
}

#[test]
fn a_providers_table_and_variables_are_merged() {
    let text = "[sqlite]\nmax_connections = 2\nbusy_timeout_ms = 1";
    let environment = [("MT_SQLITE__BUSY_TIMEOUT_MS", "7"), ("MT_SQLITE__DURABLE", "false")];
    let settings = load(text, &environment, Options::default()).unwrap();
    assert_eq!(settings.table["max_connections"], 2);
    assert_eq!(settings.table["busy_timeout_ms"], 7);
    assert_eq!(settings.table["durable"], false);
    assert_eq!(origin_of(&settings, "sqlite.durable"), "MT_SQLITE__DURABLE");
}

/// What Turso cannot do without.
const TURSO: Pairs<'_> = &[
    ("MT_PROVIDER", "turso"),
    ("MT_TURSO__ORGANIZATION", "acme"),
    ("MT_TURSO__GROUP", "default"),
    ("MT_TURSO__API_TOKEN", "hunter2"),
];

#[test]
fn a_variable_is_of_the_kind_that_its_provider_takes() {
    let environment = [
        ("MT_PROVIDER", "turso"),
        ("MT_TURSO__ORGANIZATION", "42"),
        ("MT_TURSO__GROUP", "true"),
        ("MT_TURSO__API_TOKEN", "0042.50"),
        ("MT_TURSO__DATABASE_PREFIX", "7"),
        ("MT_TURSO__TOKEN_LIFETIME_S", "600"),
        ("MT_TURSO__GROUP_TOKENS", "true"),
    ];
    let settings = load_with(&Options::default(), &environment).unwrap();
    assert_eq!(settings.table["organization"], "42");
    assert_eq!(settings.table["group"], "true");
    assert_eq!(settings.table["api_token"], "0042.50");
    assert_eq!(settings.table["database_prefix"], "7");
    assert_eq!(settings.table["token_lifetime_s"], 600);
    assert_eq!(settings.table["group_tokens"], true);
    let environment = [("MT_SQLITE__DIRECTORY", "2026"), ("MT_SQLITE__DURABLE", "false")];
    let settings = load_with(&Options::default(), &environment).unwrap();
    assert_eq!(settings.table["directory"], "2026");
    assert_eq!(settings.table["durable"], false);
}

#[test]
fn a_variable_that_is_wrong_either_way_is_refused() {
    for (name, value) in [
        ("MT_TURSO__TOKEN_LIFETIME_S", "long"),
        ("MT_TURSO__TOKEN_LIFETIME_S", "-600"),
        ("MT_TURSO__GROUP_TOKENS", "7"),
        ("MT_TURSO__COLOUR", "7"),
    ] {
        let environment = [TURSO, &[(name, value)]].concat();
        let error = load_with(&Options::default(), &environment).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_chain().contains(name), "{}", error.to_chain());
    }
}

#[test]
fn a_setting_of_the_wrong_kind_is_named_and_no_other() {
    let text = "[turso]\ngroup = 5\ntoken_lifetime_s = 600";
    let environment = [
        ("MT_PROVIDER", "turso"),
        ("MT_TURSO__ORGANIZATION", "acme"),
        ("MT_TURSO__GROUP_TOKENS", "maybe"),
    ];
    let error = load(text, &environment, Options::default()).unwrap_err();
    assert_eq!((error.kind(), error.provider()), (ErrorKind::Config, Some("turso")));
    let said = error.to_string();
    for word in ["`group`", "my.toml", "`group_tokens`", "MT_TURSO__GROUP_TOKENS"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    for word in ["token_lifetime_s", "MT_TURSO__ORGANIZATION"] {
        assert!(!said.contains(word), "{word}: {said}");
    }
    let error = load("[sqlite]\nmax_connections = 'many'", &[], Options::default()).unwrap_err();
    assert!(error.to_string().contains("`max_connections`"), "{}", error.to_chain());
}

#[test]
fn all_that_a_provider_misses_is_named() {
    let error = load_with(&Options::default(), &[("MT_PROVIDER", "turso")]).unwrap_err();
    assert_eq!((error.kind(), error.provider()), (ErrorKind::Config, Some("turso")));
    for word in ["[turso]", "MT_TURSO__", "`organization`", "`group`", "`api_token`"] {
        assert!(error.to_chain().contains(word), "{word}: {}", error.to_chain());
    }
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (text, environment, words) in [
        ("colour = 'red'", &[][..], &["`colour`", "my.toml"][..]),
        ("[sqilte]\ndirectory = 'x'", &[], &["`sqilte`", "my.toml", "sqlite"]),
        ("main_tenant = '../x'", &[], &["main_tenant", "my.toml"]),
        ("data_dir = 7", &[], &["data_dir", "my.toml"]),
        ("data_dir = ''", &[], &["data_dir", "my.toml"]),
        ("data_dir = ", &[], &["my.toml"]),
        ("[sqlite]\ncolour = 'red'", &[], &["colour", "[sqlite]", "my.toml"]),
        ("", &[("MT_DATADIR", "x")], &["`datadir`", "MT_DATADIR"]),
        ("", &[("MT_MAIN_TENANT", "a/b")], &["main_tenant", "MT_MAIN_TENANT"]),
        ("", &[("MT_SQLITE__COLOUR", "red")], &["colour", "MT_SQLITE__COLOUR"]),
        ("", &[("MT_PROVIDER", "postgres")], &["`postgres`", "linked: sqlite", "feature"]),
    ] {
        let error = load(text, environment, Options::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        for word in words {
            assert!(error.to_chain().contains(word), "{text}: {}", error.to_chain());
        }
    }
    let options = Options { config: Some("/no/such.toml".into()), ..Options::default() };
    assert!(load_with(&options, &[]).unwrap_err().to_string().contains("/no/such.toml"));
}

#[test]
fn a_settings_file_that_is_no_toml_keeps_its_secrets() {
    const SECRET: &str = "eyJhbGciOi.SECRET-MARKER";
    for (text, place) in [
        (format!("[turso]\napi_token = {SECRET}"), "line 2, column 1"),
        (format!("[turso]\napi_token = \"{SECRET}\napi_url = 'x'"), "line 2, column "),
        (format!("[turso]\napi_token \"{SECRET}\""), "line 2, column 11"),
        (format!("[turso]\napi_token = '{SECRET}' '"), "line 2, column "),
        (format!("[turso]\napi_token = '{SECRET}'\napi_token = '{SECRET}'"), "line 3, column 1"),
        (format!("[turso]\n  api_token: {SECRET}"), "line 2, column "),
    ] {
        let error = load(&text, &[], Options::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let chain = error.to_chain();
        assert!(chain.contains("my.toml") && chain.contains(place), "{text}: {chain}");
        for said in [chain, format!("{error:?}")] {
            assert!(!said.contains("SECRET-MARKER") && !said.contains("eyJ"), "{text}: {said}");
        }
    }
}

#[test]
fn variables_of_others_are_left_alone() {
    let environment = [("MT_TEST_REQUIRE", "sqlite"), ("MTX", "1"), ("HOME", "/")];
    assert!(load_with(&Options::default(), &environment).is_ok());
}

#[test]
fn secrets_are_not_shown() {
    for key in ["api_token", "password", "url", "SECRET_KEY"] {
        assert_eq!(shown(key, &"hunter2".into()), "(set, not shown)");
    }
    assert_eq!(shown("nested", &serde_json::json!({"a": "hunter2"})), "(set, not shown)");
    assert_eq!(shown("directory", &"data".into()), "data");

    let settings = load_with(&Options::default(), TURSO).unwrap();
    let shown = serde_json::to_string(&settings.effective()).unwrap();
    assert!(shown.contains("turso.api_token") && shown.contains("MT_TURSO__API_TOKEN"), "{shown}");
    assert!(shown.contains("\"acme\""), "{shown}");
    for text in [shown, format!("{settings:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}
