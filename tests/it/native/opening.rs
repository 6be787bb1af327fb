//! What the vendor's own client is given, and what it is not.

use mt_core::{DatabaseFactory as _, DeploymentId, ErrorKind};
use sea_orm::{ConnectionTrait as _, EntityTrait as _};

use super::{
    Both, Site,
    columns::Entity,
    raw::{self, Raw},
};
use crate::support::tenant;

#[tokio::test]
async fn each_client_has_its_own_tenants_database() {
    let site = Site::start().await;
    let factory = site.turso();
    for id in ["a", "b"] {
        factory.provision(&tenant(id)).await.unwrap();
        let client = factory.native_client(&tenant(id)).await.unwrap().connect().unwrap();
        client.execute("CREATE TABLE whose (tenant TEXT)", ()).await.unwrap();
        client.execute("INSERT INTO whose VALUES (?)", [id]).await.unwrap();
    }
    for id in ["a", "b"] {
        let client = factory.native_client(&tenant(id)).await.unwrap().connect().unwrap();
        let found = raw::query(&client, "SELECT tenant FROM whose").await;
        assert_eq!(found, [[Raw::Text(id.to_owned())]]);
    }
}

#[tokio::test]
async fn its_token_is_the_databases_also_where_the_group_has_one() {
    let site = Site::start().await;
    let (factory, tenant) = (site.builder().with_group_tokens(true).build().unwrap(), tenant("a"));
    factory.provision(&tenant).await.unwrap();
    let minted = || site.server.api_requests().count("POST", "/databases/tenant-a/auth/tokens");
    assert_eq!(minted(), 0);
    let client = factory.native_client(&tenant).await.unwrap().connect().unwrap();
    assert_eq!(minted(), 1);
    assert_eq!(raw::query(&client, "SELECT 7").await, [[Raw::Integer(7)]]);
}

#[tokio::test]
async fn there_is_none_for_a_database_of_another_installation() {
    let Both { site, factory, tenant, .. } = Both::open().await;
    let stranger = Site { deployment: DeploymentId::random(), ..site };
    let refused = stranger.turso().native_client(&tenant).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ForeignDatabase);
    assert_eq!(refused.tenant(), Some(&tenant));
    let missing = crate::support::tenant("nobody");
    let refused = factory.native_client(&missing).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TenantNotFound);
}

/// The price, as it is documented.
#[tokio::test]
async fn no_gate_stops_it_and_the_service_does() {
    let Both { site: _site, factory, tenant, ours, theirs } = Both::open().await;
    raw::make_table(&ours).await;
    // A handle would refuse it.
    let by_hand = "BEGIN; COMMIT";
    assert!(ours.execute_unprepared(by_hand).await.is_err());
    theirs.execute_batch(by_hand).await.unwrap();

    factory.suspend(&tenant).await.unwrap();
    theirs.reset().await;
    let blocked = theirs.query("SELECT id FROM every_column", ()).await.unwrap_err().to_string();
    assert!(blocked.contains("BLOCKED") || blocked.contains("blocked"), "{blocked}");
    factory.activate(&tenant).await.unwrap();
    theirs.reset().await;
    assert!(raw::query(&theirs, "SELECT id FROM every_column").await.is_empty());

    factory.deprovision(&tenant).await.unwrap();
    theirs.reset().await;
    assert!(theirs.query("SELECT id FROM every_column", ()).await.is_err());
    assert!(Entity::find().all(&ours).await.is_err());
}

#[tokio::test]
async fn its_token_follows_a_stream_to_no_other_service() {
    let both = Both::open().await;
    both.site.server.set_base_url(Some("https://elsewhere.example"));
    // The first answer says where the stream goes on, and the next request would go there.
    let failed = both.theirs.query("SELECT 1", ()).await.map(drop);
    let failed = match failed {
        Ok(()) => both.theirs.query("SELECT 1", ()).await.map(drop).unwrap_err(),
        Err(error) => error,
    };
    assert!(failed.to_string().contains("another service"), "{failed}");
}
