/// Every check with its promise. The public functions, [`CHECKS`](crate::CHECKS) and the tests of a
/// suite are all made of this list, so none can be missing in one of them.
#[doc(hidden)]
#[macro_export]
macro_rules! __checks {
    (functions $with:tt) => { $crate::__checks! { @list [functions] $with } };
    ($then:ident $with:tt) => { $crate::__checks! { @list [$crate::$then] $with } };
    (@list [$($then:tt)+] $with:tt) => {
        $($then)+! {
            $with

            /// `get_adapters` of a tenant without a database says so and makes nothing.
            lifecycle::opening_an_unknown_tenant_makes_nothing,
            /// `describe` and `maintain` of a tenant without a database say so and make nothing.
            lifecycle::looking_at_an_unknown_tenant_makes_nothing,
            /// A provisioned tenant is listed and described, and its database carries its stamp.
            lifecycle::a_provisioned_tenant_is_listed_and_described,
            /// What is recorded of a tenant's schema is what its ledger says, and nothing is recorded
            /// of a tenant without a database; `tend` changes nothing of either.
            lifecycle::a_recorded_schema_is_that_of_the_ledger,
            /// `provision` adopts a database stamped for the tenant and does not touch its data.
            lifecycle::provision_twice_keeps_the_data,
            /// `provision` called at once by several succeeds for each, with one database.
            lifecycle::provision_at_once_makes_one_database,
            /// A cancelled `provision` leaves nothing that the next one cannot adopt.
            lifecycle::provision_succeeds_after_a_cancelled_one,
            /// A cancelled `get_adapters` leaves nothing open that could keep others out.
            lifecycle::a_cancelled_open_leaves_nothing_open,
            /// A handle that its owner closed refuses calls, and the tenant can be opened again.
            lifecycle::a_closed_handle_does_not_close_the_tenant,
            /// A database that is not this deployment's is not opened, adopted, copied, replaced or
            /// removed.
            lifecycle::a_foreign_database_is_refused,
            /// A database with tables and without a stamp is not served and not adopted.
            lifecycle::a_database_without_a_stamp_is_not_served,
            /// `provision` stamps a database that is empty and has no stamp.
            lifecycle::an_empty_database_is_adopted,
            /// `suspend` makes the engine refuse the tenant until `activate`, and both may be
            /// repeated; `describe`, `maintain`, `backup` and `deprovision` go on working. Without the capability both are `Unsupported` and nothing changes.
            lifecycle::suspend_keeps_everybody_out_until_activate,

            /// `deprovision` removes the database, and the next `provision` makes an empty one.
            removal::deprovision_removes_the_database,
            /// `deprovision` of a tenant without a database succeeds.
            removal::deprovision_twice_is_fine,
            /// `deprovision` revokes every handle that the factory gave out for the tenant.
            removal::deprovision_revokes_open_handles,
            /// `deprovision` waits for an open transaction or removes nothing; a commit that was
            /// acknowledged is never undone by it.
            removal::deprovision_waits_for_open_transactions,
            /// `deprovision` waits for an open stream or removes nothing.
            removal::deprovision_waits_for_open_streams,
            /// A cancelled `deprovision` is finished by the next one.
            removal::deprovision_finishes_a_cancelled_one,

            /// A handle reaches the database of the tenant that it carries and no other.
            isolation::tenants_do_not_see_each_other,
            /// Ids that differ only in case or separators, or are as long as can be, have databases
            /// of their own.
            isolation::ids_that_look_alike_have_their_own_databases,
            /// Removing a tenant leaves those whose ids look like other databases of it.
            isolation::a_neighbour_is_not_removed_with_it,
            /// A restored tenant's new database is not that of a tenant with such a name.
            isolation::a_later_generation_is_no_neighbours_database,

            /// What `maintain` opens can change the schema and carries the tenant's stamp.
            maintenance::maintenance_changes_the_schema,
            /// While a tenant is open for maintenance, nobody can deprovision or restore it.
            maintenance::maintenance_keeps_deprovision_and_restore_out,
            /// Exclusive maintenance revokes the handles and keeps everybody out until it is closed,
            /// or answers `InUse` and changes nothing. Without the capability it is `Unsupported`.
            maintenance::exclusive_maintenance_keeps_others_out,

            /// An acknowledged statement's effect is seen by a handle opened afterwards.
            sql::an_acknowledged_write_lasts,
            /// Writes acknowledged while others write are all there in the end.
            sql::writes_at_once_all_last,
            /// A batch takes effect in order, answers one result for each statement, and lasts.
            sql::a_batch_runs_in_order_and_lasts,
            /// A batch of which one statement fails leaves nothing.
            sql::a_failing_batch_leaves_nothing,
            /// A stream delivers every row, in the order of the query.
            sql::a_stream_delivers_every_row_in_order,
            /// A stream that is dropped midway leaves the handle usable.
            sql::a_dropped_stream_leaves_the_handle_usable,
            /// A row that is there twice is reported as `SqlErr::UniqueConstraintViolation`.
            sql::a_unique_violation_is_reported_as_one,
            /// Foreign keys are enforced, and reported as `SqlErr::ForeignKeyConstraintViolation`.
            sql::a_foreign_key_violation_is_reported_as_one,
            /// Statements that reach outside the tenant's database, or leave a transaction or a
            /// setting behind, are refused through every door of a handle.
            sql::statements_that_reach_outside_are_refused,
            /// A batch whose guards hold takes effect, and answers one result for each statement.
            guards::a_batch_whose_guards_hold_takes_effect,
            /// A condition of a batch that does not hold is a `Conflict`, and nothing of the batch
            /// took effect.
            guards::a_condition_that_does_not_hold_undoes_the_batch,
            /// A statement of a batch that changes another number of rows than it must is a
            /// `Conflict`, and nothing of the batch took effect.
            guards::a_wrong_number_of_changed_rows_undoes_the_batch,
            /// A guard on what cannot be guarded is `Unsupported`, what the database refuses in a
            /// guarded batch is its own error, and neither leaves anything.
            guards::a_guard_that_cannot_be_is_refused,
            /// Of several who replace one version at once exactly one wins, and nothing is lost.
            guards::each_version_is_won_once,
            /// A value comes back as it was written, through a SeaORM entity.
            values::values_come_back_as_they_were,

            /// What a transaction wrote is seen by a handle opened after its commit. Without the
            /// capability `begin` is `Unsupported`, and nothing of the transaction is run.
            transactions::a_commit_lasts,
            /// What a transaction wrote is seen by nobody else before its commit.
            transactions::an_open_transaction_is_seen_by_nobody_else,
            /// A transaction that is rolled back leaves nothing.
            transactions::a_rollback_leaves_nothing,
            /// A transaction that is dropped leaves nothing, and the handle usable.
            transactions::a_dropped_transaction_leaves_nothing,
            /// An error in the closure of a transaction rolls it back.
            transactions::an_error_in_a_transaction_rolls_it_back,
            /// A transaction that the engine ended by itself is over: nothing more of it takes
            /// effect, and its `commit` is no success.
            transactions::a_transaction_ended_by_the_engine_is_over,
            /// A transaction inside a transaction is rolled back alone. Without the capability its
            /// `begin` is `Unsupported`, and the outer one goes on.
            transactions::a_savepoint_is_rolled_back_alone,

            /// A read handle sees what was committed.
            read::a_read_handle_sees_committed_rows,
            /// A read handle writes nothing, through any of its doors.
            read::a_read_handle_refuses_writes,
            /// A transaction of a read handle writes nothing, whatever it asks for.
            read::a_read_transaction_refuses_writes,

            /// `restore` puts back the rows of the moment of the backup, under a new stamp of the
            /// same tenant and a later generation. Without the capability it is `Unsupported`, and
            /// nothing changes.
            backup::restore_gives_back_the_rows_of_the_backup,
            /// `restore` revokes every handle that the factory gave out for the tenant.
            backup::restore_revokes_open_handles,
            /// `restore` gives a database to a tenant that has none.
            backup::restore_makes_a_missing_database,
            /// A copy that is taken while the tenant is written to is of one moment.
            backup::a_backup_while_writing_is_of_one_moment,
            /// A manifest tells size, checksum and rows of what was written, and holds no secret.
            backup::a_manifest_tells_what_was_written,
            /// A `backup` whose sink fails is an error, and the tenant is none the worse.
            backup::a_failing_sink_fails_the_backup,
            /// A copy of another tenant is refused, or stamped anew where that is allowed.
            backup::a_copy_of_another_tenant_is_refused_or_restamped,
            /// A copy of another deployment is refused, or stamped anew where that is allowed.
            backup::a_copy_of_another_deployment_is_refused_or_restamped,
            /// A copy that is not what its manifest says is `Corrupt`, and nothing changes.
            backup::a_damaged_copy_is_refused,
            /// A copy of another kind of engine is `Unsupported`, and nothing changes.
            backup::a_copy_of_another_engine_is_refused,
            /// A cancelled `restore` leaves either the old or the new database in place.
            backup::a_cancelled_restore_leaves_a_whole_database,

            /// Each capability is true: what is set works, what is not set is `Unsupported` before
            /// any side effect.
            capabilities::capabilities_are_true,
        }
    };
}
