//! The contract on the real cloud, and what only the real cloud can tell.
//!
//! Runs with `MT_TEST_D1_ACCOUNT_ID` and `MT_TEST_D1_API_TOKEN`, and makes and removes databases
//! there. Without them every test is reported as ignored, and with `MT_TEST_REQUIRE=d1-cloud` as
//! failed. `MT_TEST_D1_API_URL` names another place to ask, such as the one in mt-devservers, and
//! `MT_TEST_D1_FILL` how many databases may be made until the account is full; without it that is
//! not tried.
//!
//! Every question prints what the service answered, and fails where this crate relies on the
//! opposite.

#![expect(clippy::print_stderr, reason = "whoever runs it is told what was left out, and answers")]

mod cloud;
mod names;
mod sizes;
mod statements;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use mt_conformance::CHECKS;

use self::cloud::{Cloud, FILL, REQUIRED};

type Question = (&'static str, fn(&Cloud) -> Result<(), Failed>);

/// What the facts leave open.
const QUESTIONS: [Question; 11] = [
    ("a_batch_is_atomic", statements::a_batch_is_atomic),
    ("parameters_are_bound_as_they_are_sent", statements::parameters),
    ("a_violation_is_told_in_the_engines_words", statements::a_violation),
    ("a_taken_name_is_told_by_its_code", names::a_taken_name),
    ("a_new_database_is_seen_soon", names::a_new_database_is_seen),
    ("our_names_are_taken", names::our_names_are_taken),
    ("a_prefix_finds_its_databases", names::a_prefix_finds),
    ("a_deleted_database_is_gone", names::a_deleted_database_is_gone),
    ("a_page_has_as_many_as_we_ask_for", sizes::pages),
    ("a_batch_has_as_many_statements_as_we_send", sizes::statements),
    ("a_request_is_as_long_as_we_send", sizes::requests),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let cloud = Cloud::from_environment();
    let required = std::env::var("MT_TEST_REQUIRE").unwrap_or_default();
    let required = required.split(',').any(|name| name == "d1-cloud");
    let ignored = cloud.is_none() && !required;
    if ignored && !arguments.list {
        eprintln!("SKIPPED d1-cloud: set {}", REQUIRED.join(", "));
    }
    let trial = |name: &str, work: Box<dyn FnOnce(Cloud) -> Result<(), Failed> + Send>| {
        let cloud = cloud.clone();
        let work = move || match cloud {
            Some(cloud) => work(cloud),
            None => Err(format!("required, and not set: {}", REQUIRED.join(", ")).into()),
        };
        Trial::test(name, work).with_ignored_flag(ignored)
    };
    let checks = CHECKS.iter().map(|check| {
        let work = move |cloud: Cloud| {
            cloud::run(async {
                check.run(&cloud.subject()).await.map_err(|e| e.to_string().into())
            })
        };
        trial(check.name, Box::new(work))
    });
    let questions = QUESTIONS.iter().map(|(name, ask)| {
        let work = move |cloud: Cloud| {
            let answer = ask(&cloud);
            // What it made goes, whatever came of it.
            let cleared = cloud::run(cloud.clear());
            answer.and(cleared)
        };
        trial(name, Box::new(work))
    });
    let is_filled = cloud.as_ref().is_some_and(|cloud| cloud.fill.is_some());
    if cloud.is_some() && !is_filled && !arguments.list {
        eprintln!("SKIPPED a_full_account_is_told_by_its_code: set {FILL}");
    }
    let full = trial(
        "a_full_account_is_told_by_its_code",
        Box::new(|cloud| {
            let answer = names::a_full_account(&cloud);
            answer.and(cloud::run(cloud.clear()))
        }),
    );
    let full = if is_filled { full } else { full.with_ignored_flag(!required || cloud.is_some()) };
    let trials = checks.chain(questions).chain([full]).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
