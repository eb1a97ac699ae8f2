"""Plots that ask who: who took it, who brought it, who is it, who will win."""

from __future__ import annotations

from mechft.tasks.stories.procedural.plot import Plot
from mechft.tasks.stories.procedural.templates import Telling, listed

THIEF = Plot(
    name="thief",
    candidates=listed(
        "the cat, the dog, the goat, the crow, the pig, the monkey, the fox, the raccoon, "
        "the squirrel, the mouse, the hen, the parrot, the goose, the donkey, the bear"
    ),
    things=listed(
        "cake, apple pie, honey cake, bread, pudding, cheese, plum cake, cherry pie, nut bread, "
        "cream cake, sandwich, pizza, berry tart, lemon cake"
    ),
    event=(
        "{Later}, the {thing} on the kitchen table was gone.",
        "{Later}, they saw that somebody had taken the {thing} from the window.",
        "{Later}, {friend} wanted some of the {thing}, and the plate was empty.",
        "{Later}, {hero} looked into the kitchen, and there was no {thing} on the table any more.",
    ),
    question=Telling(
        (
            "They asked themselves who had taken it.",
            "They wanted to know who could do such a thing.",
            "Nobody had seen who took it.",
        ),
        (
            '"Who took the {thing}?" asked {friend}.',
            '"Somebody took our {thing}!" cried {hero}.',
            '"Where is the {thing}?" asked {hero}.',
        ),
    ),
    ask="who took the {thing}",
    claim="{x} had taken the {thing}",
    said="{x} took the {thing}",
    found="{x} has taken the {thing}",
    search=(
        "They followed the crumbs all the way to the barn.",
        "They hid behind the curtain and waited.",
        "They looked in every room until they heard a noise under the stairs.",
        "{hero} found crumbs on the floor, and they followed them into the garden.",
    ),
    reveal=Telling(
        (
            "{Answer} had taken the {thing}.",
            "There sat {answer} with the {thing}.",
            "In front of them sat {answer} with crumbs all around.",
        ),
        ('"Look, {answer} took it!" cried {friend}.',),
    ),
    good=(
        "Most of the {thing} was still there, and they all ate it together.",
        "Grandma made a new one, and there was enough for all of them.",
        "Only one bite was missing, so they shared the rest.",
    ),
    bad=(
        "Nothing was left of the {thing}, and there was no other food in the house.",
        "The {thing} lay in the dirt, and nobody could eat it any more.",
        "It had been for Grandma's birthday, and now there was nothing to give her.",
    ),
    lessons=(
        "it is better to ask before you take something",
        "food tastes best when you share it",
    ),
)

GIFT = Plot(
    name="gift",
    candidates=listed(
        "the baker, the postman, the milkman, the gardener, the teacher, the fisherman, "
        "the shepherd, the farmer, the doctor, the tailor, the shoemaker, the miller, the nurse, "
        "the painter"
    ),
    things=listed(
        "red apple, warm scarf, white flower, painted stone, jar of honey, basket of plums, "
        "small cake, pot of soup, bunch of flowers, new broom, bag of nuts, round cheese, "
        "bowl of cherries, pair of socks"
    ),
    event=(
        "{Later}, they found {a_thing} in front of the door.",
        "{Later}, there was {a_thing} on the doorstep, and nobody knew where it came from.",
        "{Later}, {hero} opened the door and saw {a_thing} on the step.",
        "{Later}, somebody left {a_thing} at the window and went away.",
    ),
    question=Telling(
        (
            "They asked themselves who had brought it.",
            "They wanted to know who was so kind.",
            "Nobody had seen who put it there.",
        ),
        (
            '"Who gave us this?" asked {friend}.',
            '"Somebody gave us a present!" cried {hero}.',
            '"Where does it come from?" asked {hero}.',
        ),
    ),
    ask="who brought the {thing}",
    claim="{x} had brought the {thing}",
    said="{x} brought the {thing}",
    found="{x} has brought the {thing}",
    search=(
        "The next morning they got up early and hid behind the hedge.",
        "They went from house to house and asked.",
        "They sat at the window and kept watch until they heard steps.",
        "{hero} waited by the gate for a long time.",
    ),
    reveal=Telling(
        (
            "{Answer} had brought the {thing}.",
            "Down the road came {answer} with one more present.",
            "In the end, {answer} told them all about it and smiled.",
        ),
        ('"Look, {answer} brought it!" cried {friend}.',),
    ),
    good=(
        "They said thank you, and all of them had tea together.",
        "From then on there was a little present every week.",
        "They gave back a big hug, and that was the start of a long friendship.",
    ),
    bad=(
        "It was a present to say goodbye, and they never met again.",
        "It was meant for another house, and they had to give it back.",
        "They wanted to say thank you, but their kind friend fell ill and had to go away.",
    ),
    lessons=(
        "a small present can mean a lot",
        "it is good to say thank you",
    ),
)

STRANGER = Plot(
    name="stranger",
    candidates=listed(
        "a baker, a doctor, a king, a sailor, a teacher, a farmer, a painter, a singer, a cook, "
        "a clown, a magician, a prince, a gardener, a pirate, an actor, a dancer"
    ),
    things=listed(
        "long coat, green hat, big suitcase, wooden stick, heavy bag, black umbrella, "
        "grey beard, red scarf, golden ring, round box, brown cloak, torn jacket"
    ),
    event=(
        "{Later}, a stranger with {a_thing} came down the road.",
        "{Later}, they met a stranger with {a_thing}.",
        "{Later}, a stranger with {a_thing} stood at the gate.",
        "{Later}, {hero} saw a stranger with {a_thing} under a tree.",
    ),
    question=Telling(
        (
            "They asked themselves who it could be.",
            "They wanted to know more about the stranger.",
            "Nobody in the place knew the stranger.",
        ),
        (
            '"Who is that?" asked {friend}.',
            '"I have never seen that stranger before!" cried {hero}.',
            '"Who can the stranger be?" asked {hero}.',
        ),
    ),
    ask="who the stranger with the {thing} is",
    claim="the stranger was {x}",
    said="the stranger is {x}",
    found="the stranger is {x}",
    search=(
        "They went up to the stranger and asked.",
        "They gave the stranger a cup of tea and sat down to listen.",
        "{hero} said hello, and the stranger laughed.",
        "They waited until the stranger came closer.",
    ),
    reveal=Telling(
        (
            "The stranger was {answer}.",
            "The stranger told them about the life of {answer}.",
            "In truth, the stranger with the {thing} was {answer}.",
        ),
        ('"I am {answer}," said the stranger.',),
    ),
    good=(
        "The stranger stayed for dinner and told them funny stories.",
        "The stranger gave each of them a little present and became their friend.",
        "They sang songs with the stranger until the stars came out.",
    ),
    bad=(
        "At night the stranger ran away with all their toys.",
        "The stranger had come with bad news, for Grandma was very ill.",
        "The stranger had to leave at once, and they never met again.",
    ),
    lessons=(
        "it is good to be polite to everyone",
        "every person has a story to tell",
    ),
)

RACE = Plot(
    name="race",
    candidates=listed(
        "the rabbit, the horse, the turtle, the pig, the deer, the goat, the dog, the duck, "
        "the snail, the hen, the donkey, the fox, the sheep, the hedgehog, the frog"
    ),
    things=listed(
        "old mill, big oak, stone bridge, river, windmill, red barn, tall rock, well, "
        "white fence, lake, hill, apple tree"
    ),
    event=(
        "{Later}, there was a race to the {thing}.",
        "{Later}, all the animals met for a race to the {thing}.",
        "{Later}, {hero} and {friend} went to see a race to the {thing}.",
        "{Later}, the mayor called everyone to a race to the {thing}.",
    ),
    question=Telling(
        (
            "They asked themselves who would be the fastest.",
            "They wanted to know who would be first.",
            "Nobody knew how it would end.",
        ),
        (
            '"Who will win?" asked {friend}.',
            '"I cannot wait to see the winner!" cried {hero}.',
            '"Who is the fastest?" asked {hero}.',
        ),
    ),
    ask="who wins the race to the {thing}",
    claim="{x} would win the race",
    said="{x} will win the race",
    found="{x} wins the race",
    search=(
        "A whistle blew, and all the runners set off.",
        "The runners went over the field and through the mud.",
        "The runners were so fast that one could only see dust.",
        "It was a long race, and everyone clapped and shouted.",
    ),
    reveal=Telling(
        (
            "{Answer} won the race.",
            "The first to reach the {thing} was {answer}.",
            "At the {thing}, {answer} came in first.",
        ),
        ('"Look, {answer} won the race!" cried {friend}.',),
    ),
    good=(
        "There was a gold medal for the winner and lemonade for everyone.",
        "Then there was music, and everyone danced until dark.",
        "The winner got a big cake and shared it with everyone.",
    ),
    bad=(
        "Right after that the winner fell and broke a leg, and the feast was called off.",
        "Somebody had stolen the prize, and everyone went home in silence.",
        "{hero} had bet all {his} toys on it, and now a bad man took them all.",
    ),
    lessons=(
        "it is good to do your best",
        "taking part is more important than winning",
    ),
    it="The winner",
)

WHO = (THIEF, GIFT, STRANGER, RACE)
