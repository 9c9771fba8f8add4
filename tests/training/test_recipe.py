from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilenets.errors import RecipeError
from mobilenets.training.recipe import Recipe, list_recipes, load_recipe

recipes = st.builds(
    Recipe,
    epochs=st.integers(2, 10**6),
    batch_size=st.integers(1, 10**5),
    optimizer=st.sampled_from(["adamw", "sgd", "rmsprop"]),
    momentum=st.none() | st.floats(0, 0.999),
    schedule=st.sampled_from(["cosine", "constant", "onecycle", "step", "exponential"]),
    augment=st.sampled_from(["none", "trivial", "rand"]),
    mixup_alpha=st.none() | st.floats(0.01, 10),
    progressive_start=st.none() | st.floats(0.1, 1),
    learning_rate=st.floats(1e-12, 1e3),
    warmup_epochs=st.floats(0, 100),
    clip_grad_norm=st.none() | st.floats(1e-9, 1e9),
    ema_decay=st.none() | st.floats(0, 0.99999),
    flip=st.booleans(),
    freeze=st.sampled_from(["none", "bn", "backbone"]),
    backbone_rate=st.floats(1e-6, 1e3),
    balance=st.sampled_from(["none", "weights", "sampling"]),
)


@pytest.mark.parametrize("name", list_recipes())
def test_every_shipped_recipe_loads_and_opens_with_source_command_result_and_cost(name: str) -> None:
    assert isinstance(load_recipe(name), Recipe)
    text = (Path(__file__).parents[2] / "src/mobilenets/recipes" / f"{name}.toml").read_text()
    header = [line for line in text.splitlines() if line.startswith("#")]
    for label in ("Source:", "Command:", "Expected:", "Cost:"):
        assert sum(label in line for line in header) == 1, label
    assert "PENDING" not in text
    assert f"--recipe {name}" in text


def test_the_articles_recipe_is_the_articles() -> None:
    recipe = load_recipe("article")
    assert (recipe.optimizer, recipe.learning_rate, recipe.weight_decay) == ("adamw", 1e-3, 1e-4)
    assert (recipe.schedule, recipe.epochs, recipe.flip, recipe.crop_padding) == ("cosine", 100, True, 4)
    assert recipe == Recipe(), "the defaults of the record are the articles' recipe"


PAPERS = {
    "paper-v1": ("rmsprop", 32, 0.045, 1.0, "step", 0.94, 2.0, 4e-5, False, 0.0, None, 100),
    "paper-v2": ("rmsprop", 96, 0.045, 1.0, "step", 0.98, 1.0, 4e-5, False, 0.1, 0.9999, 300),
    "paper-v3": ("rmsprop", 4096, 0.1, 1e-3, "step", 0.99, 3.0, 1e-5, False, 0.0, 0.9999, 600),
    "paper-v4": ("adamw", 4096, 0.002, 1e-6, "cosine", None, None, 0.01, True, 0.1, 0.9999, 9623),
}


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_recipes_hold_the_papers_values(name: str) -> None:
    recipe = load_recipe(name)
    assert PAPERS[name] == (
        recipe.optimizer,
        recipe.batch_size,
        recipe.learning_rate,
        recipe.epsilon,
        recipe.schedule,
        recipe.gamma,
        recipe.decay_epochs,
        recipe.weight_decay,
        recipe.decay_depthwise,
        recipe.label_smoothing,
        recipe.ema_decay,
        recipe.epochs,
    )
    assert not recipe.decay_norm_and_bias
    assert recipe.crop == "resized"
    assert recipe.flip
    assert recipe.momentum == (0.6 if name == "paper-v4" else 0.9)
    if name == "paper-v4":
        assert (recipe.augment, recipe.rand_ops, recipe.rand_magnitude, recipe.rand_probability) == ("rand", 2, 9, 0.5)
        assert recipe.warmup_epochs == 1560 / 312


@pytest.mark.slow
@given(recipes)
def test_toml_and_back_is_the_same_recipe(recipe: Recipe) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.toml"
        path.write_text(recipe.to_toml())
        assert load_recipe(path) == recipe


def test_changes_replace_what_the_file_says() -> None:
    assert load_recipe("quick", epochs=3).epochs == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochz = 3", "no field epochz; did you mean epochs?"),
        ("xyzzy = 3", "fields are epochs, batch_size"),
        ("square_decay = 0.9", "no field square_decay; it is called alpha now"),
        ("rate_decay = 0.9", "no field rate_decay; it is called gamma now"),
        ("epochs = 'ten'", "epochs: Input should be a valid integer"),
        ("epochs = 1.5", "epochs: Input should be a valid integer"),
        ("epochs = true", "epochs: Input should be a valid integer"),
        ("epochs = 0", "epochs is 0; it must be from 1 to 1,000,000"),
        ("learning_rate = -1.0", "learning_rate is -1.0; it must be above 0"),
        ("learning_rate = nan", "learning_rate is nan"),
        ("weight_decay = nan", "weight_decay is nan"),
        ("label_smoothing = 1.0", "label_smoothing is 1.0; it must be from 0 to below 1"),
        ("backbone_rate = 0.0", "backbone_rate is 0.0; it must be above 0"),
        ("freeze = 'head'", "freeze: Input should be 'none', 'bn' or 'backbone'"),
        ("balance = true", "balance: Input should be 'none', 'weights' or 'sampling'"),
        ("optimizer = 'adam'", "optimizer: Input should be 'adamw', 'sgd' or 'rmsprop'"),
        ("erasing = 1.5", "erasing is 1.5; it must be from 0 to 1"),
        ("rand_magnitude = 11\naugment = 'rand'", "rand_magnitude is 11; it must be from 0 to 10"),
        ("momentum = 1.0", "momentum is 1.0; it must be from 0 to below 1"),
        ("epsilon = 1.0\noptimizer = 'sgd'", "epsilon is 1.0, but optimizer is sgd; it is for adamw and rmsprop"),
        ("gamma = 0.9", "gamma is 0.9, but schedule is cosine; it is for step and exponential: leave it out"),
        ("crop_scale = 0.5", "crop_scale is 0.5, but crop is padded; it is for resized"),
        ("rand_ops = 2", "rand_ops is 2, but augment is none; it is for rand"),
        ("progressive_end = 0.5", "progressive_end is 0.5 without progressive_start"),
        ("mix_probability = 0.5", "mix_probability is 0.5 without mixup_alpha or cutmix_alpha"),
        ("epochs = ", "not valid TOML"),
        ("epochs = 2024-01-01", "fields are numbers"),
        ("warmup_epochs = inf", "warmup_epochs is inf"),
        ("seed = 9223372036854775808", "seed is 9223372036854775808"),
    ],
)
def test_a_wrong_file_gets_one_line_naming_file_and_field(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_lists_those_there_are() -> None:
    with pytest.raises(
        RecipeError, match="shipped are article, finetune, paper-v1, paper-v2, paper-v3, paper-v4, quick, strong"
    ):
        load_recipe("artikle")
    with pytest.raises(RecipeError, match="can't be read"):
        load_recipe("nowhere/mine.toml")


def test_every_field_says_what_it_is() -> None:
    source = (Path(__file__).parents[2] / "src/mobilenets/training/recipe.py").read_text()
    for field in fields(Recipe):
        declaration = source.index(f"    {field.name}: ")
        following = source[declaration:].splitlines()[1].strip()
        assert following.startswith('"""'), field.name
