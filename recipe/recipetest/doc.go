// Package recipetest makes small runs for tests of what a RunSpec configures.
package recipetest
