use super::*;

const ACCOUNT: &str = "0123456789abcdef0123456789abcdef";

fn parse(url: &str) -> Result<D1Config> {
    D1Config::from_url(&Url::parse(&url.replace("ACCOUNT", ACCOUNT)).unwrap())
}

#[test]
fn a_url_says_what_a_settings_file_says() {
    let config = parse(
        "d1://ACCOUNT?database_prefix=7_&jurisdiction=eu&primary_location_hint=weur\
         &requests_per_window=600&bookmark_before_migrations=true",
    )
    .unwrap();
    assert_eq!((config.account_id.as_str(), config.api_token.as_str()), (ACCOUNT, ""));
    assert_eq!(config.database_prefix, "7_");
    assert_eq!(config.jurisdiction, Some(Jurisdiction::Eu));
    assert_eq!(config.primary_location_hint, Some(LocationHint::Weur));
    assert_eq!(config.requests_per_window, 600);
    assert!(config.bookmark_before_migrations);
}

#[test]
fn places_are_spelled_as_the_service_spells_them() {
    for jurisdiction in [Jurisdiction::Eu, Jurisdiction::FedRamp, Jurisdiction::Us] {
        assert_eq!(serde_json::to_value(jurisdiction).unwrap(), jurisdiction.as_str());
    }
    for hint in [
        LocationHint::Wnam,
        LocationHint::Enam,
        LocationHint::Weur,
        LocationHint::Eeur,
        LocationHint::Apac,
        LocationHint::Oc,
    ] {
        assert_eq!(serde_json::to_value(hint).unwrap(), hint.as_str());
    }
}

#[test]
fn a_token_is_in_no_url_and_is_not_written_out() {
    let error = parse("d1://ACCOUNT?api_token=hunter2").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_chain().contains("MT_D1__API_TOKEN"), "{}", error.to_chain());
    assert!(!error.to_chain().contains("hunter2"), "{}", error.to_chain());

    let url = Url::parse(&format!("d1://{ACCOUNT}")).unwrap();
    let settings = settings_with_token(&url, Some("hunter2".to_owned())).unwrap();
    let config = D1Config::from_value(settings).unwrap();
    assert_eq!(config.api_token, "hunter2");
    config.check().unwrap();
    assert!(!serde_json::to_string(&config).unwrap().contains("hunter2"));
    // Without one, the settings say what is missing and where it may stand.
    let config = D1Config::from_value(settings_with_token(&url, None).unwrap()).unwrap();
    let error = config.check().unwrap_err();
    assert!(error.to_chain().contains("MT_D1__API_TOKEN"), "{}", error.to_chain());
}

#[test]
fn what_is_not_a_setting_is_refused() {
    for url in [
        "sqlite:data",
        "d1:ACCOUNT",
        "d1://",
        "d1://ACCOUNT/more",
        "d1://user@ACCOUNT",
        "d1://ACCOUNT:80",
        "d1://ACCOUNT#more",
        "d1://ACCOUNT?colour=red",
        "d1://ACCOUNT?account_id=other",
        "d1://ACCOUNT?jurisdiction=moon",
        "d1://ACCOUNT?window_s=long",
    ] {
        assert_eq!(parse(url).unwrap_err().kind(), ErrorKind::Config, "{url}");
    }
}

#[test]
fn a_setting_of_the_wrong_type_is_named() {
    for (name, value) in [
        ("account_id", serde_json::json!(5)),
        ("requests_per_window", "many".into()),
        ("jurisdiction", "mars".into()),
        ("bookmark_before_migrations", 1.into()),
        ("colour", "red".into()),
    ] {
        let settings = serde_json::json!({"window_s": 300, "api_token": "hunter2", name: value});
        let error = D1Config::from_value(settings).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(&format!("`{name}`")), "{}", error.to_chain());
        assert!(!error.to_chain().contains("hunter2"), "{}", error.to_chain());
    }
    assert!(parse("d1://ACCOUNT?window_s=long").unwrap_err().to_string().contains("`window_s`"));
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let good =
        D1Config { account_id: ACCOUNT.into(), api_token: "hunter2".into(), ..D1Config::default() };
    good.check().unwrap();
    assert!(!format!("{good:?}").contains("hunter2"));
    let error = D1Config::from_value(serde_json::json!({"api_token": 4711})).unwrap_err();
    assert!(error.to_chain().contains("api_token"), "{}", error.to_chain());
    assert!(!error.to_chain().contains("4711"), "{}", error.to_chain());
    type Change = fn(&mut D1Config);
    let wrong: [(Change, &str); 13] = [
        (|c| c.account_id.clear(), "account_id"),
        (|c| c.account_id.push('0'), "account_id"),
        (|c| c.account_id = ACCOUNT.to_uppercase(), "account_id"),
        (|c| c.account_id = format!("g{}", &ACCOUNT[1..]), "account_id"),
        (|c| c.api_token.clear(), "api_token"),
        (|c| c.api_token.push('\n'), "api_token"),
        (|c| c.api_url = "http://example.com".into(), "api_url"),
        (|c| c.database_prefix.clear(), "database_prefix"),
        (|c| c.database_prefix = "abc-".into(), "database_prefix"),
        (|c| c.requests_per_window = 0, "requests_per_window"),
        (|c| c.window_s = 0, "window_s"),
        (|c| c.window_s = 100_000, "window_s"),
        (|c| c.request_timeout_ms = 0, "request_timeout_ms"),
    ];
    for (change, name) in wrong {
        let mut config = good.clone();
        change(&mut config);
        let error = config.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_chain().contains(name), "{}", error.to_chain());
        assert!(!error.to_chain().contains("hunter2"));
    }
}
