//! The proxy in front of a real Postgres: what it does to a network and to commits.
#![cfg(test)]

use std::time::Duration;

use local_postgres::TestServer;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection};
use sea_orm::sqlx::{Connection, Executor, Row};
use tests::proxy::{Loss, Proxy, Upstream, Weather};
use tokio::time::{Instant, timeout};

const SOON: Duration = Duration::from_secs(10);
const NOT_SO_SOON: Duration = Duration::from_millis(300);

/// A database with a table `t`, past the proxy and by way of it.
struct Way {
    direct: PgConnection,
    options: PgConnectOptions,
    proxy: Proxy,
}

impl Way {
    async fn open() -> Self {
        let direct: PgConnectOptions = TestServer::shared().fresh_database().parse().unwrap();
        let proxy = Proxy::listen(1).unwrap();
        let socket = format!(".s.PGSQL.{}", direct.get_port());
        proxy.lead_to(Upstream::Unix(direct.get_socket().unwrap().join(socket)));
        let url = format!("postgres://saga@{}/{}", proxy.address(), direct.get_database().unwrap());
        let options = format!("{url}?sslmode=disable").parse().unwrap();
        let mut direct = PgConnection::connect_with(&direct).await.unwrap();
        direct.execute("CREATE TABLE t (n integer)").await.unwrap();
        Self { direct, options, proxy }
    }

    async fn by_proxy(&self) -> PgConnection {
        PgConnection::connect_with(&self.options).await.unwrap()
    }

    async fn rows(&mut self) -> i64 {
        self.direct.fetch_one("SELECT count(*) FROM t").await.unwrap().get(0)
    }
}

#[tokio::test]
async fn a_commit_happens_and_its_answer_is_lost() {
    let mut way = Way::open().await;
    let mut connection = way.by_proxy().await;
    connection.execute("INSERT INTO t VALUES (1)").await.unwrap();
    way.proxy.lose([Loss::Answer]);
    connection.execute("SELECT 1").await.unwrap();
    connection.execute("INSERT INTO t VALUES (2)").await.unwrap_err();
    assert_eq!((way.rows().await, way.proxy.lost()), (2, 1));

    let mut connection = way.by_proxy().await;
    way.proxy.lose([Loss::Answer]);
    let mut transaction = connection.begin().await.unwrap();
    transaction.execute("INSERT INTO t VALUES (3)").await.unwrap();
    transaction.commit().await.unwrap_err();
    assert_eq!((way.rows().await, way.proxy.lost()), (3, 2));

    let mut connection = way.by_proxy().await;
    way.proxy.lose([Loss::Fate]);
    connection.execute("INSERT INTO t VALUES (4)").await.unwrap_err();
    assert_eq!(way.proxy.lost(), 3);
    way.by_proxy().await.execute("INSERT INTO t VALUES (5)").await.unwrap();
}

#[tokio::test]
async fn a_network_is_slow_cut_silent_and_well_again() {
    let mut way = Way::open().await;
    let mut connection = way.by_proxy().await;
    way.proxy.set(Weather::Slow(Duration::from_millis(100), Duration::ZERO));
    let begun = Instant::now();
    connection.execute("SELECT 1").await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(200), "there and back");
    way.proxy.set(Weather::Clear);

    way.proxy.cut();
    connection.execute("SELECT 1").await.unwrap_err();

    let mut connection = way.by_proxy().await;
    way.proxy.set(Weather::Swallowing);
    timeout(NOT_SO_SOON, connection.execute("SELECT 1")).await.unwrap_err();
    timeout(NOT_SO_SOON, PgConnection::connect_with(&way.options)).await.map(drop).unwrap_err();
    way.proxy.set(Weather::Clear);
    // What was swallowed does not come again: whoever waits for it must see its connection end.
    timeout(SOON, connection.execute("SELECT 1")).await.unwrap().unwrap_err();

    let mut connection = way.by_proxy().await;
    way.proxy.set(Weather::Mute);
    timeout(NOT_SO_SOON, connection.execute("INSERT INTO t VALUES (1)")).await.unwrap_err();
    assert_eq!(way.rows().await, 1, "it arrived, and nobody was told");
    way.proxy.set(Weather::Clear);
    timeout(SOON, connection.execute("SELECT 1")).await.unwrap().unwrap_err();

    let mut connection = way.by_proxy().await;
    way.proxy.set(Weather::Stalled);
    let query = connection.execute("SELECT 1");
    tokio::pin!(query);
    timeout(NOT_SO_SOON, &mut query).await.unwrap_err();
    way.proxy.set(Weather::Clear);
    // Nothing was lost.
    timeout(SOON, &mut query).await.unwrap().unwrap();

    way.proxy.set(Weather::Closed);
    PgConnection::connect_with(&way.options).await.map(drop).unwrap_err();
    way.proxy.set(Weather::Clear);
    way.by_proxy().await.execute("SELECT 1").await.unwrap();
}
