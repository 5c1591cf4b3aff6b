//! A group of real nodes over real stores, in one loop that a seed decides: what is delivered, lost, repeated and
//! delayed, who is cut off, dies and comes back, what is proposed, read and changed. `checks` judges after each step.

mod checks;
mod deaths;
mod machine;
mod network;
mod run;
mod scenarios;
