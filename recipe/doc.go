// Package recipe says what a run trains with, in both directions: an organiser's choices become the RunSpec that it signs,
// and a RunSpec becomes the configurations of the packages that compute.
//
// A Recipe is a way of training that belongs together; All lists them. Run is a recipe with a model, a corpus and a budget;
// its Spec is signed. Model, Trainer, Parts, Contributions and Owner read a RunSpec; Check says what of one this program
// cannot do. Nothing here trains, and nothing knows of peers.
package recipe
