//! Whole lives of isolated tasks a second, beside the bare floor and the rival.

use anyhow::Result;

use super::{Driver, Sizes};
use crate::conditions::Conditions;
use crate::floor::{Crun, Floor};
use crate::result::{Baseline, Goal, Measurement, median};

pub(super) async fn measure(driver: &mut Driver, sizes: &Sizes) -> Result<Vec<Measurement>> {
    let conditions = Conditions::now()?;
    let (mut ours, mut bare, mut by_hand, mut rival) = (vec![], vec![], vec![], vec![]);
    let (mut spawn, mut container) = (Floor::start("spawn")?, Floor::start("container")?);
    let mut crun = Crun::start()?;
    for _ in 0..sizes.batches {
        let rounds = spawn.rounds(sizes.batch)?;
        let seconds: f64 = rounds.iter().map(|round| round.life.as_secs_f64()).sum();
        bare.push(sizes.batch as f64 / seconds);
        let took = driver.run_batch(&["true"], sizes.batch).await?;
        ours.push(sizes.batch as f64 / took.as_secs_f64());
        rival.push(sizes.crun as f64 / crun.run(sizes.crun)?.as_secs_f64());
        let rounds = container.rounds(sizes.batch)?;
        let seconds: f64 = rounds.iter().map(|round| round.life.as_secs_f64()).sum();
        by_hand.push(sizes.batch as f64 / seconds);
    }
    let value = median(&ours);
    let row = |name, goal, theirs: &[f64], note: String| Measurement {
        name,
        value,
        unit: "tasks/s",
        goal,
        baseline: Some(Baseline::paired(&ours, theirs)),
        conditions: conditions.clone(),
        note,
    };
    let extremes = ours
        .iter()
        .fold((f64::MAX, 0f64), |(least, most), rate| (least.min(*rate), most.max(*rate)));
    let processors = std::thread::available_parallelism()?;
    Ok(vec![
        row(
            "launch/rate",
            Some(Goal::AtLeast(300.0)),
            &bare,
            format!(
                "median of {} batches of {} `true`, from the first ACCEPT to the last TASK_FINISHED, on \
                 {processors} processors; worst {:.0}, best {:.0}; baseline: vfork, exec and wait, one \
                 after the other, isolated from nothing",
                sizes.batches, sizes.batch, extremes.0, extremes.1,
            ),
        ),
        row(
            "launch/rate-by-hand",
            None,
            &by_hand,
            "the same; baseline: the hand-written container, one after the other".to_owned(),
        ),
        row(
            "launch/rate-crun",
            None,
            &rival,
            format!("the same; baseline: `crun run`, {} after each batch", sizes.crun),
        ),
    ])
}
