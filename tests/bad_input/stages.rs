//! Verbs at the wrong moment.

use super::stand::{MAPPING, Stand, both_engines, chain, spoil};
use changeover::flags::Key;
use changeover::worker::backfill::BackfillOptions;
use changeover::worker::copy::CopySource;

both_engines!(before_install, another_revision);

mod scenario {
    use super::*;

    pub(super) async fn before_install(postgres: bool) {
        let stand = Stand::usual(postgres).await;
        let before = stand.census().await;
        let migration = stand.open(MAPPING).await.unwrap();
        let options = BackfillOptions {
            attempts: Some(1),
            ..BackfillOptions::default()
        };
        let errors = [
            chain(&migration.epoch().await.expect_err("epoch")),
            chain(&migration.start_copying().await.expect_err("start")),
            chain(
                &migration
                    .verify(Default::default())
                    .await
                    .expect_err("verify"),
            ),
            chain(
                &migration
                    .backfill(options)
                    .run(|_| {})
                    .await
                    .expect_err("backfill"),
            ),
            chain(
                &migration
                    .repair(false)
                    .run(&[Key::from(1)])
                    .await
                    .expect_err("repair"),
            ),
            chain(
                &migration
                    .copier()
                    .copy(&[Key::from(1)], CopySource::Drain)
                    .await
                    .expect_err("copy"),
            ),
            chain(
                &migration
                    .drain(Default::default())
                    .once()
                    .await
                    .expect_err("drain"),
            ),
        ];
        for error in errors {
            assert!(
                error.contains("not installed") && error.contains("run install first"),
                "{error}"
            );
        }
        migration.uninstall().await.unwrap();
        assert_eq!(stand.census().await, before);
    }

    pub(super) async fn another_revision(postgres: bool) {
        let stand = Stand::usual(postgres).await;
        let migration = stand.open(MAPPING).await.unwrap();
        migration.install().await.unwrap();
        migration.start_copying().await.unwrap();
        let before = stand.census().await;
        let newer = stand
            .open(&spoil(MAPPING, ("revision = 1", "revision = 2")))
            .await
            .unwrap();
        let errors = [
            chain(&newer.install().await.expect_err("install")),
            chain(&newer.stop_copying().await.expect_err("step")),
            chain(
                &newer
                    .copier()
                    .copy(&[Key::from(1)], CopySource::Drain)
                    .await
                    .expect_err("copy"),
            ),
        ];
        for error in errors {
            assert!(
                error.contains("revision 1") && error.contains("has 2") && error.contains("raise"),
                "{error}"
            );
        }
        assert_eq!(stand.census().await, before);
        migration
            .copier()
            .copy(&[Key::from(1)], CopySource::Drain)
            .await
            .unwrap();
        assert_eq!(stand.new.texts("SELECT name FROM things").await, ["one"]);
    }
}
