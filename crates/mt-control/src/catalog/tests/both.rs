use futures_util::future::join_all;
use mt_core::{
    DatabaseName, ErrorKind, Generation, PlacementStore as _, SecretRef, TenantId,
    TenantState::{Active, Deleted, Failed, Provisioning, Suspended},
};

use super::{AT_ONCE, Place, outcomes, race, tenant};
use crate::catalog::{Catalog, placements::CatalogPlacements};

/// Makes a test for each engine of each of the functions below.
macro_rules! on_both_engines {
    ($($name:ident)*) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    super::$name(super::Place::file()).await;
                }
            )*
        }
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    super::$name(super::Place::server().await).await;
                }
            )*
        }
    };
}

on_both_engines! {
    of_many_that_open_it_first_all_have_one_deployment
    an_id_is_reserved_once
    an_id_that_differs_by_case_is_taken
    a_deleted_tenants_next_life_is_one_generation_on
    of_many_that_move_a_tenant_one_does
    of_many_that_place_a_tenant_one_does
    of_many_that_restore_a_tenant_one_does
    what_is_written_is_read
    tenants_are_listed_by_the_bytes_of_their_ids
    placements_of_more_tenants_than_one_query_asks_for
    looking_whether_it_is_made_makes_nothing
}

async fn reserve(catalog: &Catalog, id: &str) -> TenantId {
    catalog.reserve(&tenant(id), "sqlite", false).await.unwrap().tenant
}

async fn of_many_that_open_it_first_all_have_one_deployment(place: Place) {
    let opened = join_all((0..AT_ONCE).map(|_| {
        let location = place.location();
        tokio::spawn(async move { location.open().await })
    }));
    let mut deployments = Vec::new();
    for catalog in opened.await {
        let catalog = catalog.unwrap().unwrap();
        deployments.push(catalog.deployment());
        assert!(catalog.list().await.unwrap().is_empty());
        catalog.close().await.unwrap();
    }
    deployments.dedup();
    assert_eq!(deployments.len(), 1, "{deployments:?}");
    assert_eq!(place.open().await.deployment(), deployments[0]);
}

async fn an_id_is_reserved_once(place: Place) {
    for id in ["a", "b", "c", "d"] {
        let all =
            race(
                &place,
                |catalog| async move { catalog.reserve(&tenant(id), "sqlite", false).await },
            );
        let (reserved, refused) = outcomes(all.await);
        assert_eq!(reserved, 1);
        for error in refused {
            assert_eq!(error.kind(), ErrorKind::TenantExists, "{}", error.to_chain());
        }
    }
}

async fn an_id_that_differs_by_case_is_taken(place: Place) {
    let catalog = place.open().await;
    reserve(&catalog, "Acme").await;
    let error = catalog.reserve(&tenant("aCME"), "sqlite", false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TenantExists);
    assert!(error.to_string().contains("`Acme`"), "{error}");
    assert_eq!(catalog.find(&tenant("acme")).await.unwrap(), None);
}

async fn a_deleted_tenants_next_life_is_one_generation_on(place: Place) {
    let catalog = place.open().await;
    let acme = reserve(&catalog, "acme").await;
    let mut expected = Generation::FIRST;
    for _ in 0..4 {
        assert!(catalog.move_to(&acme, &[Provisioning], Deleted, None).await.unwrap());
        let all = race(&place, |catalog| async move {
            catalog.reserve(&tenant("acme"), "turso", false).await
        });
        let (reserved, refused) = outcomes(all.await);
        assert_eq!(reserved, 1);
        for error in refused {
            assert_eq!(error.kind(), ErrorKind::TenantExists, "{}", error.to_chain());
        }
        expected = expected.next();
        let record = catalog.get(&acme).await.unwrap();
        assert_eq!((record.placement.generation, record.provider.as_str()), (expected, "turso"));
    }
}

async fn of_many_that_move_a_tenant_one_does(place: Place) {
    let catalog = place.open().await;
    let acme = reserve(&catalog, "acme").await;
    for (from, to) in [(Provisioning, Active), (Active, Suspended), (Suspended, Failed)] {
        let all = race(&place, |catalog| async move {
            catalog.move_to(&tenant("acme"), &[from], to, None).await.unwrap()
        });
        assert_eq!(all.await.into_iter().filter(|moved| *moved).count(), 1);
        assert_eq!(catalog.get(&acme).await.unwrap().state, to);
    }
}

async fn of_many_that_place_a_tenant_one_does(place: Place) {
    let catalog = place.open().await;
    let acme = reserve(&catalog, "acme").await;
    for _ in 0..4 {
        let expected = catalog.get(&acme).await.unwrap().placement;
        let all = race(&place, |catalog| {
            let expected = expected.clone();
            async move {
                let mut new = expected.clone();
                new.generation = expected.generation.next();
                new.database = Some(DatabaseName::from_stored("tenant-acme"));
                new.attributes.insert("host\0\u{1f980}'\"".to_owned(), "é".to_owned());
                new.secret = Some(SecretRef("vault/acme".to_owned()));
                let store = CatalogPlacements(catalog);
                store.compare_and_set(&tenant("acme"), &expected, &new).await.map(|()| new)
            }
        });
        let all = all.await;
        let placed = all.iter().flatten().next().cloned();
        let (count, refused) = outcomes(all);
        assert_eq!(count, 1);
        for error in refused {
            assert_eq!(error.kind(), ErrorKind::Conflict, "{}", error.to_chain());
        }
        assert_eq!(Some(catalog.get(&acme).await.unwrap().placement), placed);
    }
    let gone = catalog.get(&acme).await.unwrap().placement;
    catalog.move_to(&acme, &[Provisioning], Deleted, None).await.unwrap();
    let late = CatalogPlacements(catalog).compare_and_set(&acme, &gone, &gone).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::TenantNotFound);
}

async fn of_many_that_restore_a_tenant_one_does(place: Place) {
    let catalog = place.open().await;
    let acme = reserve(&catalog, "acme").await;
    catalog.move_to(&acme, &[Provisioning], Active, None).await.unwrap();
    let all = race(&place, |catalog| async move {
        catalog.begin_restore(&tenant("acme"), &[Active, Suspended]).await
    });
    let (begun, refused) = outcomes(all.await);
    assert_eq!(begun, 1);
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::Conflict, "{}", error.to_chain());
    }
    catalog.end_restore(&acme, Active, None).await.unwrap();
    let record = catalog.get(&acme).await.unwrap();
    assert_eq!((record.state, record.restoring), (Active, false));
}

async fn what_is_written_is_read(place: Place) {
    let catalog = place.open().await;
    let before = chrono::Utc::now();
    let acme = reserve(&catalog, "acme").await;
    let made = catalog.get(&acme).await.unwrap();
    let after = chrono::Utc::now();
    // PostgreSQL keeps microseconds.
    let slack = chrono::TimeDelta::microseconds(1);
    for moment in [made.created_at, made.updated_at] {
        assert!(before - slack <= moment && moment <= after + slack, "{before} {moment} {after}");
    }
    assert_eq!(
        place.open().await.get(&acme).await.unwrap(),
        made,
        "another process reads the same"
    );

    catalog.note_error(&acme, Some("it said: 'a\0b' \u{1f980}")).await.unwrap();
    let generation = made.placement.generation;
    catalog.note_schema(&acme, generation, Some("m1"), Some("f1")).await.unwrap();
    catalog.note_schema(&acme, generation.next(), Some("m2"), None).await.unwrap();
    let noted = catalog.get(&acme).await.unwrap();
    assert_eq!(noted.last_error.as_deref(), Some("it said: 'a\u{fffd}b' \u{1f980}"));
    assert_eq!(noted.schema_version.as_deref(), Some("m1"), "not another generation's");
    assert_eq!(noted.schema_fingerprint.as_deref(), Some("f1"));
    assert!(noted.updated_at >= made.updated_at && noted.created_at == made.created_at);

    let reserved = catalog.reserve(&tenant("globex"), "d1", true).await.unwrap();
    assert!(reserved.restoring);
    catalog.release(&reserved).await.unwrap();
    assert_eq!(catalog.find(&tenant("globex")).await.unwrap(), None);
}

async fn tenants_are_listed_by_the_bytes_of_their_ids(place: Place) {
    let catalog = place.open().await;
    let mut ids = ["b", "a-b", "a_b", "A1", "ab", "Z", "a2", "0", "aC", "a"];
    for id in ids {
        reserve(&catalog, id).await;
    }
    let listed = catalog.list().await.unwrap();
    let listed: Vec<&str> = listed.iter().map(|record| record.tenant.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(listed, ids);
}

async fn placements_of_more_tenants_than_one_query_asks_for(place: Place) {
    let catalog = place.open().await;
    let there = reserve(&catalog, "t1100").await;
    let ids: Vec<TenantId> = (0..1_200).map(|number| tenant(&format!("t{number}"))).collect();
    let found = CatalogPlacements(catalog).get_many(&ids).await.unwrap();
    let known: Vec<_> = ids.iter().zip(&found).filter(|(_, place)| place.is_some()).collect();
    assert!(matches!(known.as_slice(), [(id, _)] if **id == there), "{known:?}");
}

async fn looking_whether_it_is_made_makes_nothing(place: Place) {
    let location = place.location();
    for _ in 0..2 {
        assert!(!location.is_made().await.unwrap());
    }
    if let Some(path) = location.as_file() {
        assert!(!path.parent().unwrap().exists());
    }
    let catalog = place.open().await;
    assert_eq!(catalog.location(), &location);
    assert!(location.is_made().await.unwrap());
}
