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
    optimizer=st.sampled_from(["adamw", "sgd"]),
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
        ("epochs = 'ten'", "epochs: Input should be a valid integer"),
        ("epochs = 1.5", "epochs: Input should be a valid integer"),
        ("epochs = true", "epochs: Input should be a valid integer"),
        ("epochs = 0", "epochs is 0; it must be at least 1"),
        ("learning_rate = -1.0", "learning_rate is -1.0; it must be above 0"),
        ("learning_rate = nan", "learning_rate is nan"),
        ("weight_decay = nan", "weight_decay is nan"),
        ("label_smoothing = 1.0", "label_smoothing is 1.0; it must be from 0 to below 1"),
        ("backbone_rate = 0.0", "backbone_rate is 0.0; it must be above 0"),
        ("freeze = 'head'", "freeze: Input should be 'none', 'bn' or 'backbone'"),
        ("balance = true", "balance: Input should be 'none', 'weights' or 'sampling'"),
        ("optimizer = 'adam'", "optimizer: Input should be 'adamw' or 'sgd'"),
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
    with pytest.raises(RecipeError, match="shipped are article, finetune, quick"):
        load_recipe("artikle")
    with pytest.raises(RecipeError, match="can't be read"):
        load_recipe("nowhere/mine.toml")


def test_every_field_says_what_it_is() -> None:
    source = (Path(__file__).parents[2] / "src/mobilenets/training/recipe.py").read_text()
    for field in fields(Recipe):
        declaration = source.index(f"    {field.name}: ")
        following = source[declaration:].splitlines()[1].strip()
        assert following.startswith('"""'), field.name
