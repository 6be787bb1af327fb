/// Every check with its promise. [`CHECKS`](crate::conformance::CHECKS) and the tests of a suite
/// are made of this list, so none can be missing in one of them.
#[doc(hidden)]
#[macro_export]
macro_rules! __driver_checks {
    ([$($then:tt)+] $with:tt) => {
        $($then)+! {
            $with

            /// A value of each of SeaORM's types comes back as it was written, through an entity,
            /// required and optional.
            values::values_come_back_as_they_were,
            /// Every bit of a bound number, text or blob comes back, with its storage class.
            values::parameters_come_back_to_the_bit,
            /// An infinite number comes back, or is refused both ways: never another number or NULL.
            values::infinity_comes_back_or_is_refused,
            /// A value that SQLite has no form for is refused, and nothing is sent.
            values::a_value_without_a_form_is_refused,

            /// Columns come in the order of the statement, with their names, also where several
            /// have the same or one that must be quoted.
            rows::columns_keep_their_order_and_names,
            /// A value of another type than is asked for is an error, never `None`.
            rows::a_mistyped_column_is_an_error,
            /// A query without rows answers none.
            rows::an_empty_result_has_no_rows,
            /// Rows come in the order of the statement, however many there are.
            rows::many_rows_come_in_order,

            /// `execute` answers how many rows it changed, and the rowid of the last inserted one.
            statements::effects_are_counted,
            /// An insertion asked for its rows answers those of its `RETURNING`, and has happened.
            statements::an_insertion_answers_what_it_returns,
            /// An entity is inserted, found, counted, paged, updated and deleted through
            /// `DataAdapters`.
            statements::an_entity_is_served,
            /// `execute_unprepared` runs several statements, a trigger among them, and empty text.
            statements::text_of_several_statements_is_run,
            /// What is wrong with a statement of a text keeps those after it from running. All of those
            /// before it have happened, or none.
            statements::text_stops_at_the_first_error,
            /// Results of a batch come in the order of its statements.
            statements::a_batch_answers_in_order,
            /// A batch of which a statement fails leaves nothing.
            statements::a_failing_batch_leaves_nothing,
            /// The database answers a ping.
            statements::it_answers_a_ping,
            /// Tasks that use the driver at once get each their own answers.
            statements::tasks_get_their_own_answers,

            /// A row that is there twice is `SqlErr::UniqueConstraintViolation`, in SQLite's words,
            /// however the statement was run.
            errors::a_unique_violation_is_told,
            /// A reference to a row that is not there is `SqlErr::ForeignKeyConstraintViolation`.
            errors::a_foreign_key_violation_is_told,
            /// Other violated constraints are errors of kind `Statement`.
            errors::other_violations_are_statement_errors,
            /// A syntax error, a missing table and a missing column are errors of kind `Statement`
            /// in the engine's words.
            errors::a_wrong_statement_is_a_statement_error,
            /// A database without a stamp is told from one that does not answer.
            errors::a_missing_stamp_is_told,

            /// What a transaction wrote is there after its commit. Without the ability `begin` is
            /// `Unsupported`.
            transactions::a_commit_lasts,
            /// A transaction that is rolled back or dropped leaves nothing.
            transactions::what_is_not_committed_leaves_nothing,
            /// What an open transaction wrote is seen inside it and not outside.
            transactions::an_open_transaction_is_seen_by_nobody_else,
            /// Transactions that are opened at once do not lose each other's updates.
            transactions::transactions_at_once_lose_no_update,
            /// A transaction that the engine ended by itself is over: nothing more of it takes
            /// effect, and its commit is no success.
            transactions::a_transaction_ended_by_the_engine_is_over,
            /// After a statement that failed a transaction goes on.
            transactions::a_failed_statement_leaves_the_transaction,
            /// A transaction in a transaction is kept, rolled back and dropped alone. Without the
            /// ability it is `Unsupported`.
            transactions::nested_transactions_end_alone,
            /// A nested transaction that is still open when the one around it is committed leaves
            /// nothing, and does nothing more.
            transactions::an_outer_commit_takes_nested_ones_back,

            /// A stream delivers every row, in order, outside of transactions and in one.
            streams::a_stream_delivers_every_row_in_order,
            /// A stream that is dropped half way leaves the driver usable.
            streams::a_dropped_stream_leaves_the_driver_usable,
            /// An error in the middle of a stream comes after the rows before it, and ends it.
            streams::an_error_ends_a_stream,
        }
    };
}
